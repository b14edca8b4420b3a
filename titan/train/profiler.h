// Traces of chosen steps in Chrome's format, which https://ui.perfetto.dev opens, one file per rank: what the host
// calls and, on a GPU, every kernel. See config::Profiling and docs/profiling.md.
//
//   StepProfiler profiler(experiment.profiling(), "runs/a", /*rank=*/0, device);
//   profiler.BeginStep(step);   // 1 for the first
//   ...
//   TITAN_RETURN_IF_ERROR(profiler.EndStep(step));  // writes runs/a/profiling/traces/iteration_10/rank0_trace.json

#ifndef TITAN_TRAIN_PROFILER_H_
#define TITAN_TRAIN_PROFILER_H_

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace titan::config {
class Profiling;
}

namespace titan {

// Of every profile_freq steps the last profiler_active are recorded, after profiler_warmup steps in which the profiler
// is ready but drops what it sees, because its own start is slow. Steps of one process, one after the other.
class StepProfiler {
 public:
  // `profiling` must outlive the profiler.
  StepProfiler(const config::Profiling& profiling, std::string run_directory, int64_t rank, c10::Device device);
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  void BeginStep(int64_t step);
  // After the last recorded step of a cycle: waits for the device and writes the trace.
  absl::Status EndStep(int64_t step);

 private:
  enum class State { kOff, kReady, kRecording };

  absl::Status Write(int64_t step);

  const config::Profiling& profiling_;
  const std::string run_directory_;
  const int64_t rank_;
  const c10::Device device_;
  State state_ = State::kOff;
};

}  // namespace titan

#endif  // TITAN_TRAIN_PROFILER_H_
