// What a thread does, and when, for whoever listens: nobody, in most runs, and then a span costs a load and a branch.
//
//   {
//     const Span span("forward");
//     ...
//   }                                      // the listener, if there is one, is told
//   const Span span("step", /*number=*/7);
//
// Times are the host's: on a GPU what a span has enqueued may run later. titan/metrics/span_log.h writes them down.

#ifndef TITAN_BASE_SPAN_H_
#define TITAN_BASE_SPAN_H_

#include <atomic>
#include <chrono>
#include <cstdint>

namespace titan {

class SpanListener {
 public:
  using Clock = std::chrono::steady_clock;

  virtual ~SpanListener() = default;

  // `name` lives as long as the program; `number` is -1 if the span has none. Called by the thread whose span it is, at
  // its end; of several threads at once.
  virtual void OnSpan(const char* name, int64_t number, Clock::time_point begin, Clock::time_point end) = 0;
};

// Who is told of all spans of this process that begin from now on; null for nobody. A listener must outlive every span
// that has begun while it listened.
void SetSpanListener(SpanListener* listener);

namespace span_internal {
extern std::atomic<SpanListener*> listener;
}  // namespace span_internal

class Span {
 public:
  explicit Span(const char* name, int64_t number = -1)
      : listener_(span_internal::listener.load(std::memory_order_acquire)), name_(name), number_(number) {
    if (listener_ != nullptr) begin_ = SpanListener::Clock::now();
  }
  ~Span() { End(); }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  // Ends the span before its scope does.
  void End() {
    if (listener_ != nullptr) listener_->OnSpan(name_, number_, begin_, SpanListener::Clock::now());
    listener_ = nullptr;
  }

 private:
  SpanListener* listener_;  // null: nobody is to be told
  const char* const name_;
  const int64_t number_;
  SpanListener::Clock::time_point begin_;
};

// A name for this thread, by which listeners know it: "loader". It lives as long as the program. Threads that live at
// the same time have different names, or are not told apart.
void NameThread(const char* name);
// "thread" if it has no name.
const char* ThreadName();

}  // namespace titan

#endif  // TITAN_BASE_SPAN_H_
