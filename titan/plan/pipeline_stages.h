// Which blocks of a model are in which stage of a pipeline: torchtitan 0.2.2's rules.
//
//   StageSplit split;
//   split.ranks = 2;
//   absl::StatusOr<std::vector<StageRange>> stages = SplitStages(spec, PipelineScheduleKind::k1F1B, split);
//   // 6 layers: {0, 4} embedding and layers 0 to 2; {4, 8} layers 3 to 5 and head

#ifndef TITAN_PLAN_PIPELINE_STAGES_H_
#define TITAN_PLAN_PIPELINE_STAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/plan/model_spec.h"
#include "titan/plan/pipeline_schedule.h"

namespace titan {

// The blocks [begin, end) of ModelSpec::blocks; never empty.
struct StageRange {
  int64_t begin = 0;
  int64_t end = 0;

  friend bool operator==(const StageRange&, const StageRange&) = default;
};

// Fields of `parallelism` in a configuration, with its defaults.
struct StageSplit {
  int64_t ranks = 1;                    // pipeline_parallel_degree
  int64_t first_stage_less_layers = 1;  // how many layers the embedding counts as
  int64_t last_stage_less_layers = 1;   // how many layers the head counts as
  int64_t layers_per_stage = 0;         // 0: one stage per rank for GPipe and 1F1B, two for other schedules
  // For each stage the names of its blocks, separated by commas: "tok_embeddings,layers.0"; the head is "head" or
  // "norm,output". Empty: by the numbers above.
  std::vector<std::string> module_fqns_per_model_part = {};
};

// The stages in order. All blocks count as one layer, but the embedding and the head as many as StageSplit says; each
// stage gets sum / stages rounded down, the first (sum modulo stages) one more. InvalidArgument if that does not come
// out, or does not go with the number of stages per rank that `kind` takes.
absl::StatusOr<std::vector<StageRange>> SplitStages(const ModelSpec& spec, PipelineScheduleKind kind,
                                                    const StageSplit& split);

}  // namespace titan

#endif  // TITAN_PLAN_PIPELINE_STAGES_H_
