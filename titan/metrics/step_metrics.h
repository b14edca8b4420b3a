// What a step tells a person, and where it goes: console, metrics.jsonl, TensorBoard.

#ifndef TITAN_METRICS_STEP_METRICS_H_
#define TITAN_METRICS_STEP_METRICS_H_

#include <cstdint>

#include "absl/status/status.h"

namespace titan {

struct StepMetrics {
  int64_t step = 0;  // 1 for the first
  double loss = 0;   // global average over valid tokens
  double grad_norm = 0;        // before clipping
  double lr = 0;
  int64_t tokens = 0;          // of this step, over all ranks, padding included
  int64_t tokens_seen = 0;     // since the run's first step, resumed ones included
  double step_seconds = 0;     // wall time since the end of the previous step
  double data_seconds = 0;     // of it, waiting for the loader
  double tokens_per_second = 0;  // per device
  double tflops = 0;             // per device, model FLOPs
  double mfu = 0;                // share of the accelerator's peak; 0 when the peak is not known (cpu)
  int64_t memory_bytes = 0;      // peak: reserved on the GPU, resident set on the CPU
};

// One destination of the metrics of a run. Not thread-safe.
class MetricsSink {
 public:
  virtual ~MetricsSink() = default;

  virtual absl::Status Log(const StepMetrics& metrics) = 0;
  // Everything logged so far is on disk when it returns.
  virtual absl::Status Flush() = 0;
};

}  // namespace titan

#endif  // TITAN_METRICS_STEP_METRICS_H_
