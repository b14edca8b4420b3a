// What a step tells a person, and where it goes: console, metrics.jsonl, TensorBoard, report.
//
//   for (const std::unique_ptr<MetricsSink>& sink : sinks) TITAN_RETURN_IF_ERROR(sink->Log(metrics));

#ifndef TITAN_METRICS_STEP_METRICS_H_
#define TITAN_METRICS_STEP_METRICS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"

namespace titan {

struct StepMetrics {
  int64_t step = 0;              // 1 for the first
  double loss = 0;               // global average over valid tokens
  double grad_norm = 0;          // before clipping
  double lr = 0;                 // that this step used
  int64_t tokens = 0;            // of this step, over all ranks, padding included
  int64_t tokens_seen = 0;       // since the run's first step, resumed ones included
  double step_seconds = 0;       // wall time since the end of the previous step
  double data_seconds = 0;       // of it, waiting for the loader
  double tokens_per_second = 0;  // per device
  double tflops = 0;             // per device, model FLOPs
  double mfu = 0;                // share of the accelerator's peak, 0 to 1; 0 when the peak is not known (cpu)
  int64_t memory_bytes = 0;      // peak: reserved on the GPU, resident set on the CPU
  // What rank 0 sent in this step, by axis of the mesh ("fsdp", "tp", ...); nothing in a run of one process.
  std::map<std::string, int64_t> bytes_sent = {};
  double checkpoint_seconds = 0;  // of step_seconds, held up by saving
  double write_seconds = 0;       // what writing took, of a checkpoint that was complete before this step began
  int64_t failed_saves = 0;       // of checkpoints, since this session began
};

// The loss on data that is not trained on, after a step.
struct ValidationMetrics {
  int64_t step = 0;
  double loss = 0;               // mean cross-entropy over all labels of the validation's batches
  int64_t tokens = 0;            // labels, over all ranks
  double seconds = 0;            // wall time, which no step counts
  double tokens_per_second = 0;  // per device
  int64_t memory_bytes = 0;      // as StepMetrics'
};

// One destination of the metrics of a run. Not thread-safe.
class MetricsSink {
 public:
  virtual ~MetricsSink() = default;

  virtual absl::Status Log(const StepMetrics& metrics) = 0;
  // After the Log of the same step.
  virtual absl::Status LogValidation(const ValidationMetrics& metrics) = 0;
  // Everything logged so far is on disk when it returns.
  virtual absl::Status Flush() = 0;
};

// The steps since the last line of a log, as one: sinks that log every n-th step show throughput over all n.
//
//   window.Add(metrics);
//   if (window.IsLogStep(metrics.step)) Print(window.Take());
class StepWindow {
 public:
  // Logs steps 1, every `log_freq`-th, and `total_steps` (0: no known end).
  StepWindow(int64_t log_freq, int64_t total_steps) : log_freq_(log_freq), total_steps_(total_steps) {}

  bool IsLogStep(int64_t step) const;
  void Add(const StepMetrics& metrics);
  // The newest step with the sum of tokens; times per step and throughput are means over the window. Empties it.
  StepMetrics Take();

 private:
  int64_t log_freq_;
  int64_t total_steps_;
  int64_t count_ = 0;
  StepMetrics sum_;  // newest values; seconds, tokens and (throughput x seconds) added up
};

}  // namespace titan

#endif  // TITAN_METRICS_STEP_METRICS_H_
