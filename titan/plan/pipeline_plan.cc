#include "titan/plan/pipeline_plan.h"

#include "absl/log/log.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"

namespace titan {

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

absl::StatusOr<PipelinePlan> PlanPipeline(const config::Parallelism& parallelism, const ModelSpec& spec,
                                          int64_t microbatches, std::string_view csv) {
  const PipelineScheduleKind kind = PipelineScheduleKindOf(parallelism.pipeline_parallel_schedule());
  StageSplit split;
  split.ranks = parallelism.pipeline_parallel_degree();
  split.first_stage_less_layers = parallelism.pipeline_parallel_first_stage_less_layers();
  split.last_stage_less_layers = parallelism.pipeline_parallel_last_stage_less_layers();
  if (parallelism.has_pipeline_parallel_layers_per_stage()) {
    split.layers_per_stage = parallelism.pipeline_parallel_layers_per_stage();
  }
  split.module_fqns_per_model_part.assign(parallelism.module_fqns_per_model_part().begin(),
                                          parallelism.module_fqns_per_model_part().end());
  PipelinePlan plan;
  TITAN_ASSIGN_OR_RETURN(plan.stages, SplitStages(spec, kind, split));
  const int64_t stages = static_cast<int64_t>(plan.stages.size());
  if (csv.empty()) {
    TITAN_ASSIGN_OR_RETURN(plan.schedule, MakePipelineSchedule(kind, split.ranks, stages, microbatches));
  } else {
    TITAN_ASSIGN_OR_RETURN(plan.schedule, ParsePipelineScheduleCsv(csv, split.ranks, stages, microbatches));
    TITAN_RETURN_IF_ERROR(CheckPipelineSchedule(plan.schedule));
  }
  return plan;
}

}  // namespace titan
