// TensorBoard event files with torchtitan's tags, so that its dashboards work.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<MetricsSink> sink, OpenTensorBoard(out + "/tb", options));
//   $ tensorboard --logdir outputs

#ifndef TITAN_METRICS_TENSORBOARD_H_
#define TITAN_METRICS_TENSORBOARD_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "titan/metrics/step_metrics.h"

namespace titan {

struct TensorBoardOptions {
  int64_t log_freq = 10;
  int64_t total_steps = 0;
  int64_t resume_step = 0;            // the step that the run continues after; 0 for a new run
  int64_t memory_capacity_bytes = 0;  // of the device; 0 when not known: then no percentage
  std::string optimizer = "AdamW";    // tag of the learning rate: lr/AdamW
};

// Starts a new event file in `directory`. Points after resume_step are cut from the files that are there, so no step
// appears twice. Logs step 1, every log_freq-th step and the last one, and every validation.
absl::StatusOr<std::unique_ptr<MetricsSink>> OpenTensorBoard(const std::string& directory,
                                                             const TensorBoardOptions& options);

}  // namespace titan

#endif  // TITAN_METRICS_TENSORBOARD_H_
