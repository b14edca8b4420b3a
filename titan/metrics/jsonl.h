// metrics.jsonl: one JSON object a step, in the order of steps, and one for each validation, after that of its step;
// see README.md for the keys. A value that is not finite is null, since JSON knows no NaN.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<MetricsSink> sink, OpenJsonl(out + "/metrics.jsonl", resume_step));

#ifndef TITAN_METRICS_JSONL_H_
#define TITAN_METRICS_JSONL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/metrics/step_metrics.h"

namespace titan {

// `resume_step`: the step that the run continues after, 0 for a new run. Lines of later steps, and a last line that was
// cut short, are removed, so that the file goes on as if the run had never stopped. Each line is in the file when Log
// returns, and durable after Flush.
absl::StatusOr<std::unique_ptr<MetricsSink>> OpenJsonl(const std::string& path, int64_t resume_step);

struct LoggedMetrics {
  std::vector<StepMetrics> steps;
  std::vector<ValidationMetrics> validations;
};

// All lines of a file. A last line without an end is left out (a run is writing it); another malformed line is DataLoss
// with its number.
absl::StatusOr<LoggedMetrics> ReadJsonl(const std::string& path);

}  // namespace titan

#endif  // TITAN_METRICS_JSONL_H_
