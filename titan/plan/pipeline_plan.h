// The pipeline that a configuration asks for: which stages, and who runs them when.
//
//   TITAN_ASSIGN_OR_RETURN(const PipelinePlan pipeline, PlanPipeline(experiment, spec, /*csv=*/""));
//   pipeline.schedule.actions[pp_rank];  // what this rank runs
//   pipeline.stages[3];                  // the blocks of stage 3, on pipeline.schedule.rank_of_stage[3]

#ifndef TITAN_PLAN_PIPELINE_PLAN_H_
#define TITAN_PLAN_PIPELINE_PLAN_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/plan/model_spec.h"
#include "titan/plan/pipeline_schedule.h"
#include "titan/plan/pipeline_stages.h"

// The generated header is expensive.
namespace titan::config {
class Experiment;
enum Parallelism_PipelineSchedule : int;  // config::Parallelism::PipelineSchedule
}  // namespace titan::config

namespace titan {

struct PipelinePlan {
  PipelineSchedule schedule;
  std::vector<StageRange> stages;  // (schedule.num_stages)
};

PipelineScheduleKind PipelineScheduleKindOf(config::Parallelism_PipelineSchedule schedule);

// `experiment` passed the strict reader, and has a pipeline_parallel_degree above 1. `csv` is the content of the file
// that its pipeline_parallel_schedule_csv names; that goes before pipeline_parallel_schedule, which then only says how
// many stages a rank has if nothing else does. InvalidArgument from SplitStages, MakePipelineSchedule,
// ParsePipelineScheduleCsv, or CheckPipelineSchedule of the file.
absl::StatusOr<PipelinePlan> PlanPipeline(const config::Experiment& experiment, const ModelSpec& spec,
                                          std::string_view csv);

}  // namespace titan

#endif  // TITAN_PLAN_PIPELINE_PLAN_H_
