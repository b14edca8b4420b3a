// report.html: one page that tells a run's story, without scripts or anything from the network. Made from run.json,
// metrics.jsonl and the newest trace, so it can be made again at any time.
//
//   TITAN_RETURN_IF_ERROR(WriteReport(out));          // out/run.json + out/metrics.jsonl -> out/report.html

#ifndef TITAN_METRICS_REPORT_H_
#define TITAN_METRICS_REPORT_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "titan/metrics/run_record.h"
#include "titan/metrics/step_metrics.h"

namespace titan {

// The page. Curves of long runs are thinned so that it stays below a megabyte; peaks stay visible. `profile`: HTML, see
// titan/metrics/profile_panel.h.
std::string RenderReport(const RunRecord& record, const std::vector<StepMetrics>& steps,
                         const std::vector<ValidationMetrics>& validations = {}, std::string_view profile = "");

absl::Status WriteReport(const std::string& run_directory);

// A sink that writes the report every now and then (at most 1 % of the time goes into it) and at each Flush. List it
// after the metrics.jsonl sink of the same directory, whose file it reads.
std::unique_ptr<MetricsSink> OpenReport(std::string run_directory);

}  // namespace titan

#endif  // TITAN_METRICS_REPORT_H_
