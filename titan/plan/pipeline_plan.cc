#include "titan/plan/pipeline_plan.h"

#include <string>
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

StageSplit StageSplitOf(const config::Parallelism& parallelism) {
  StageSplit split;
  split.ranks = parallelism.pipeline_parallel_degree();
  split.first_stage_less_layers = parallelism.pipeline_parallel_first_stage_less_layers();
  split.last_stage_less_layers = parallelism.pipeline_parallel_last_stage_less_layers();
  if (parallelism.has_pipeline_parallel_layers_per_stage()) {
    split.layers_per_stage = parallelism.pipeline_parallel_layers_per_stage();
  }
  split.module_fqns_per_model_part.assign(parallelism.module_fqns_per_model_part().begin(),
                                          parallelism.module_fqns_per_model_part().end());
  return split;
}

}  // namespace

PipelineScheduleKind PipelineScheduleKindOf(config::Parallelism_PipelineSchedule schedule) {
  using config::Parallelism;
  switch (schedule) {
    case Parallelism::PIPELINE_SCHEDULE_1F1B:
      return PipelineScheduleKind::k1F1B;
    case Parallelism::PIPELINE_SCHEDULE_GPIPE:
      return PipelineScheduleKind::kGPipe;
    case Parallelism::PIPELINE_SCHEDULE_INTERLEAVED_1F1B:
      return PipelineScheduleKind::kInterleaved1F1B;
    case Parallelism::PIPELINE_SCHEDULE_LOOPED_BFS:
      return PipelineScheduleKind::kLoopedBFS;
    case Parallelism::PIPELINE_SCHEDULE_INTERLEAVED_ZERO_BUBBLE:
      return PipelineScheduleKind::kInterleavedZeroBubble;
    case Parallelism::PIPELINE_SCHEDULE_ZBV_ZERO_BUBBLE:
      return PipelineScheduleKind::kZBVZeroBubble;
    case Parallelism::PIPELINE_SCHEDULE_DUAL_PIPE_V:
      return PipelineScheduleKind::kDualPipeV;
    default:
      LOG(FATAL) << "no such pipeline schedule: " << static_cast<int>(schedule);
  }
}

absl::StatusOr<PipelinePlan> PlanPipeline(const config::Experiment& experiment, const ModelSpec& spec,
                                          std::string_view csv) {
  const config::Parallelism& parallelism = experiment.parallelism();
  const PipelineScheduleKind kind = PipelineScheduleKindOf(parallelism.pipeline_parallel_schedule());
  const int64_t microbatches =
      experiment.training().local_batch_size() / parallelism.pipeline_parallel_microbatch_size();
  const StageSplit split = StageSplitOf(parallelism);
  PipelinePlan plan;
  TITAN_ASSIGN_OR_RETURN(plan.stages, SplitStages(spec, kind, split));
  const int64_t stages = static_cast<int64_t>(plan.stages.size());
  if (const std::string& file = parallelism.pipeline_parallel_schedule_csv(); !file.empty()) {
    absl::StatusOr<PipelineSchedule> schedule = ParsePipelineScheduleCsv(csv, split.ranks, stages, microbatches);
    absl::Status status = schedule.status();
    if (status.ok()) status = CheckPipelineSchedule(*schedule);
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("parallelism.pipeline_parallel_schedule_csv: ", file, ": ", status.message()));
    }
    plan.schedule = *std::move(schedule);
  } else {
    TITAN_ASSIGN_OR_RETURN(plan.schedule, MakePipelineSchedule(kind, split.ranks, stages, microbatches));
  }
  return plan;
}

}  // namespace titan
