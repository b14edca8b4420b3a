// The pipeline that a configuration asks for: which stages, and who runs them when.
//
//   TITAN_ASSIGN_OR_RETURN(const PipelinePlan pipeline,
//                          PlanPipeline(experiment.parallelism(), spec, microbatches, /*csv=*/""));
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
class Parallelism;
enum Parallelism_PipelineSchedule : int;  // config::Parallelism::PipelineSchedule
}  // namespace titan::config

namespace titan {

struct PipelinePlan {
  PipelineSchedule schedule;
  std::vector<StageRange> stages;  // (schedule.num_stages)
};

PipelineScheduleKind PipelineScheduleKindOf(config::Parallelism_PipelineSchedule schedule);

// `csv` is the content of the file that pipeline_parallel_schedule_csv names, "" when it names none; it goes before
// pipeline_parallel_schedule, which then only says how many stages a rank has if nothing else does. InvalidArgument
// from SplitStages, MakePipelineSchedule, ParsePipelineScheduleCsv, or CheckPipelineSchedule of the file.
absl::StatusOr<PipelinePlan> PlanPipeline(const config::Parallelism& parallelism, const ModelSpec& spec,
                                          int64_t microbatches, std::string_view csv);

}  // namespace titan

#endif  // TITAN_PLAN_PIPELINE_PLAN_H_
