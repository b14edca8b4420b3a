// A thread that writes while the caller goes on: one job at a time.
//
//   BackgroundWriter writer;
//   writer.Start([=] { return WriteShard(task, pieces); });
//   ...                                                       // meanwhile
//   if (writer.IsDone()) status = writer.Wait();              // or: waits as long as it takes

#ifndef TITAN_CHECKPOINT_WRITER_H_
#define TITAN_CHECKPOINT_WRITER_H_

#include <atomic>
#include <functional>
#include <thread>

#include "absl/status/status.h"

namespace titan {

class BackgroundWriter {
 public:
  BackgroundWriter() = default;
  // Waits for the job.
  ~BackgroundWriter();
  BackgroundWriter(const BackgroundWriter&) = delete;
  BackgroundWriter& operator=(const BackgroundWriter&) = delete;

  // The job before it must have been waited for. The job throws nothing.
  void Start(std::function<absl::Status()> job);
  // Whether there is a job that was not waited for.
  bool has_job() const { return thread_.joinable(); }
  // Whether Wait would return at once.
  bool IsDone() const { return done_; }
  // What the job has returned; ok without a job.
  absl::Status Wait();

 private:
  std::thread thread_;
  absl::Status result_;  // of the thread, until it is joined
  std::atomic<bool> done_ = true;
};

}  // namespace titan

#endif  // TITAN_CHECKPOINT_WRITER_H_
