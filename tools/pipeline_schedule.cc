// pipeline_schedule: draws a pipeline schedule, says what it costs, or writes it as CSV. Exit code 2 for a command line
// or a schedule that is wrong.

#include "titan/plan/pipeline_schedule.h"

#include <algorithm>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/plan/pipeline_timeline.h"

namespace titan {
namespace {

constexpr char kUsage[] =
    R"(usage: pipeline_schedule --schedule KIND --ranks N --microbatches N [--stages N] [--print FORM]
       pipeline_schedule --csv FILE --ranks N --microbatches N [--stages N] [--print FORM]
  --schedule KIND  GPipe, 1F1B, Interleaved1F1B, LoopedBFS, InterleavedZeroBubble, ZBVZeroBubble, DualPipeV, or all
  --csv FILE       a line per rank of cells such as 0F1: stage, F B I or W, microbatch
  --stages N       default: one per rank for GPipe and 1F1B, otherwise two per rank
  --print FORM     picture (default), csv, or table: schedule, stages per rank, bubble, activations alive on a rank,
                   and the most of them in microbatches of all its layers
Times count a forward, and half a backward, of one stage as 1, and messages as 0.)";

enum class Form { kPicture, kCsv, kTable };

struct Options {
  std::string kind;
  std::string csv;
  int64_t ranks = 0;
  int64_t stages = 0;
  int64_t microbatches = 0;
  Form form = Form::kPicture;
};

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments) {
  Options options;
  std::vector<std::pair<std::string, std::string>> kinds = {{"all", "all"}};
  for (const PipelineScheduleKind kind : AllPipelineScheduleKinds()) {
    const std::string name(PipelineScheduleName(kind));
    kinds.emplace_back(name, name);
  }
  FlagParser flags;
  flags.Choice("schedule", kinds, &options.kind);
  flags.Path("csv", &options.csv);
  flags.Number("ranks", "a number of ranks", 1, &options.ranks);
  flags.Number("stages", "a number of stages", 1, &options.stages);
  flags.Number("microbatches", "a number of microbatches", 1, &options.microbatches);
  flags.Choice<Form>("print", {{"picture", Form::kPicture}, {"csv", Form::kCsv}, {"table", Form::kTable}},
                     &options.form);
  flags.Require({"ranks", "microbatches"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  if (options.kind.empty() == options.csv.empty()) {
    return absl::InvalidArgumentError("give either --schedule or --csv");
  }
  return options;
}

absl::StatusOr<std::vector<PipelineSchedule>> Schedules(const Options& options) {
  std::vector<PipelineSchedule> schedules;
  if (!options.csv.empty()) {
    TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(options.csv));
    const int64_t stages = options.stages > 0 ? options.stages : 2 * options.ranks;
    TITAN_ASSIGN_OR_RETURN(PipelineSchedule schedule,
                           ParsePipelineScheduleCsv(text, options.ranks, stages, options.microbatches));
    TITAN_RETURN_IF_ERROR(CheckPipelineSchedule(schedule));
    schedules.push_back(std::move(schedule));
    return schedules;
  }
  for (const PipelineScheduleKind kind : AllPipelineScheduleKinds()) {
    if (options.kind != "all" && options.kind != PipelineScheduleName(kind)) continue;
    const int64_t stages = options.stages > 0 ? options.stages : options.ranks * (HasOneStagePerRank(kind) ? 1 : 2);
    TITAN_ASSIGN_OR_RETURN(PipelineSchedule schedule,
                           MakePipelineSchedule(kind, options.ranks, stages, options.microbatches));
    schedules.push_back(std::move(schedule));
  }
  return schedules;
}

std::string Summary(const PipelineSchedule& schedule, const PipelineTimeline& timeline, Form form) {
  if (form == Form::kCsv) return ToCsv(schedule);
  const auto [least, most] = std::minmax_element(timeline.peak_activations.begin(), timeline.peak_activations.end());
  const std::string peak = *least == *most ? absl::StrCat(*most) : absl::StrCat(*least, " to ", *most);
  const double bubble = 100 * timeline.bubble_share;
  if (form == Form::kTable) {
    const double per_rank = static_cast<double>(schedule.num_stages) / static_cast<double>(schedule.num_ranks);
    return absl::StrFormat("| %s | %.4g | %.1f%% | %s | %.3g |\n", schedule.name, per_rank, bubble, peak,
                           static_cast<double>(*most) / per_rank);
  }
  return absl::StrFormat(
      "%s: %d ranks, %d stages, %d microbatches; time %.4g, bubble %.1f%%, %s activations alive on a rank at "
      "most\n%s\n",
      schedule.name, schedule.num_ranks, schedule.num_stages, schedule.num_microbatches, timeline.duration, bubble,
      peak, PipelinePicture(schedule, timeline));
}

absl::Status Run(const std::vector<std::string>& arguments) {
  TITAN_ASSIGN_OR_RETURN(const Options options, ParseOptions(arguments));
  TITAN_ASSIGN_OR_RETURN(const std::vector<PipelineSchedule> schedules, Schedules(options));
  for (const PipelineSchedule& schedule : schedules) {
    std::cout << Summary(schedule, SimulatePipeline(schedule, PipelineCosts()), options.form);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("pipeline_schedule", titan::kUsage, argc, argv, titan::Run); }
