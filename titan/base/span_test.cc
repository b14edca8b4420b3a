#include "titan/base/span.h"

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace titan {
namespace {

struct Heard {
  std::string name, thread;
  int64_t number;
  double seconds;
};

class Listener : public SpanListener {
 public:
  Listener() { SetSpanListener(this); }
  ~Listener() override { SetSpanListener(nullptr); }

  void OnSpan(const char* name, int64_t number, Clock::time_point begin, Clock::time_point end) override {
    const std::lock_guard lock(mutex_);
    heard.push_back({name, ThreadName(), number, std::chrono::duration<double>(end - begin).count()});
  }

  std::vector<Heard> heard;

 private:
  std::mutex mutex_;
};

TEST(Span, IsToldWhenItEnds) {
  Listener listener;
  {
    const Span outer("outer", 3);
    const Span inner("inner");
    EXPECT_TRUE(listener.heard.empty());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_EQ(listener.heard.size(), 2u);
  EXPECT_EQ(listener.heard[0].name, "inner");
  EXPECT_EQ(listener.heard[0].number, -1);
  EXPECT_EQ(listener.heard[1].name, "outer");
  EXPECT_EQ(listener.heard[1].number, 3);
  EXPECT_GE(listener.heard[0].seconds, 0.005);
  EXPECT_GE(listener.heard[1].seconds, listener.heard[0].seconds);
}

TEST(Span, EndsOnce) {
  Listener listener;
  {
    Span span("span");
    span.End();
    EXPECT_EQ(listener.heard.size(), 1u);
  }
  EXPECT_EQ(listener.heard.size(), 1u);
}

TEST(Span, ThreadsHaveNames) {
  Listener listener;
  std::thread([] {
    NameThread("loader");
    const Span span("batch");
  }).join();
  std::thread([] { const Span span("nameless"); }).join();
  ASSERT_EQ(listener.heard.size(), 2u);
  EXPECT_EQ(listener.heard[0].thread, "loader");
  EXPECT_EQ(listener.heard[1].thread, "thread");
}

TEST(Span, WhatBeganUnheardStaysSo) {
  std::vector<Heard> heard;
  {
    Span before("before");
    Listener listener;
    before.End();
    heard = listener.heard;
  }
  EXPECT_TRUE(heard.empty());
}

}  // namespace
}  // namespace titan
