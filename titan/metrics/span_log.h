// The spans of one process (titan/base/span.h) as a file that https://ui.perfetto.dev and chrome://tracing open.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<SpanLog> log, SpanLog::Open("runs/a/spans/rank-0.json", /*rank=*/0));
//   ...                                        // spans of all threads are collected from here on
//   TITAN_RETURN_IF_ERROR(log->Flush());       // after every step: what a kill leaves behind
//
// Chrome's JSON array of events, one on each line, which by its definition needs no end: a file that grows is complete
// at any time, and a run that continues goes on in it. Times are those of the wall clock, in microseconds, so that the
// files of all ranks go together: `pid` is the rank, `tid` stands for the name of a thread.

#ifndef TITAN_METRICS_SPAN_LOG_H_
#define TITAN_METRICS_SPAN_LOG_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "titan/base/span.h"
#include "titan/metrics/append_file.h"

namespace titan {

class SpanLog : public SpanListener {
 public:
  // Listens from now on, instead of whoever did. Continues a file that is there, without a last line that was cut
  // short.
  static absl::StatusOr<std::unique_ptr<SpanLog>> Open(const std::string& path, int64_t rank);
  // Listens no more. What was not flushed is written if it can be.
  ~SpanLog() override;

  void OnSpan(const char* name, int64_t number, Clock::time_point begin, Clock::time_point end) override;

  // Writes what was collected. After an error (a full disk) that is lost, and the file is still whole.
  absl::Status Flush();

 private:
  SpanLog(AppendFile file, int64_t rank);

  // The row of the calling thread, which is that of its name; introduces it in the file when it is new.
  int64_t RowOfThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t rank_;
  const int64_t wall_clock_offset_;  // microseconds that the wall clock is ahead of the steady one
  absl::Mutex mutex_;
  AppendFile file_ ABSL_GUARDED_BY(mutex_);
  std::string lines_ ABSL_GUARDED_BY(mutex_);                    // not in the file yet
  std::map<std::string, int64_t> rows_ ABSL_GUARDED_BY(mutex_);  // by name
};

}  // namespace titan

#endif  // TITAN_METRICS_SPAN_LOG_H_
