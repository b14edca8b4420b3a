// Where a GPU's time went: computing, communication that computing hides or does not, idle. See kUsage.

#include "titan/metrics/trace_breakdown.h"

#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/base/with_context.h"

namespace titan {
namespace {

constexpr std::string_view kUsage =
    R"(usage: trace_breakdown TRACE.json...

Says for each trace (of --set profiling.enable_profiling=true, or of PyTorch's profiler) where the GPU's time went.
)";

absl::Status Run(const std::vector<std::string>& arguments) {
  std::vector<std::string> traces;
  FlagParser flags;
  flags.Positional(&traces);
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  if (traces.empty()) return absl::InvalidArgumentError("expected a trace; see --help");
  for (const std::string& trace : traces) {
    TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(UserPath(trace)));
    const absl::StatusOr<TraceBreakdown> breakdown = BreakDownTrace(text);
    if (!breakdown.ok()) return WithContext(trace, breakdown.status());
    std::cout << trace << "\n" << FormatBreakdown(*breakdown);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("trace_breakdown", titan::kUsage, argc, argv, titan::Run); }
