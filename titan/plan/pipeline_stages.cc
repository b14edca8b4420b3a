#include "titan/plan/pipeline_stages.h"

#include <algorithm>
#include <string_view>

#include "absl/log/check.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

template <typename... What>
absl::Status Refuse(std::string_view field, const What&... what) {
  return absl::InvalidArgumentError(absl::StrCat("parallelism.", field, ": ", what...));
}

// How many stages there are for a model with `layers` layers.
absl::StatusOr<int64_t> NumStages(int64_t layers, PipelineScheduleKind kind, const StageSplit& split) {
  const bool single = HasOneStagePerRank(kind);
  if (split.layers_per_stage == 0) return split.ranks * (single ? 1 : 2);
  const int64_t weight = layers + split.first_stage_less_layers + split.last_stage_less_layers;
  const int64_t stages = (weight + split.layers_per_stage - 1) / split.layers_per_stage;
  const std::string sum = absl::StrCat(split.layers_per_stage, " makes ", stages, " stages: (", layers, " layers + ",
                                       split.first_stage_less_layers, " for the embedding + ",
                                       split.last_stage_less_layers, " for the head) / ", split.layers_per_stage);
  constexpr std::string_view kField = "pipeline_parallel_layers_per_stage";
  if (stages % split.ranks != 0) {
    return Refuse(kField, sum, "; the number of stages must be a multiple of pipeline_parallel_degree (", split.ranks,
                  ")");
  }
  const int64_t per_rank = stages / split.ranks;
  const std::string_view name = PipelineScheduleName(kind);
  if (single && per_rank != 1) {
    return Refuse(kField, sum, ", ", per_rank, " on each of ", split.ranks, " ranks; schedule ", name,
                  " takes exactly 1 stage per rank; raise it to ", (weight + split.ranks - 1) / split.ranks,
                  " or take a schedule with several stages per rank");
  }
  if (!single && per_rank < 2) {
    return Refuse(kField, sum, ", ", per_rank, " on each of ", split.ranks, " ranks; schedule ", name,
                  " takes at least 2 stages per rank; lower it");
  }
  return stages;
}

absl::StatusOr<std::vector<StageRange>> SplitEvenly(int64_t blocks, int64_t stages, const StageSplit& split) {
  if (stages == 1) return std::vector<StageRange>{{0, blocks}};
  const int64_t first = split.first_stage_less_layers;
  const int64_t last = split.last_stage_less_layers;
  const int64_t layers = blocks - 2;
  const int64_t weight = layers + first + last;
  const std::string sum =
      absl::StrCat(weight, " (", layers, " layers + ", first, " for the embedding + ", last, " for the head)");
  if (stages > weight) {
    return Refuse("pipeline_parallel_degree", stages, " stages are more than the ", sum,
                  " that there are to share out; take fewer ranks, or more layers per stage");
  }
  const int64_t least = weight / stages;
  for (const auto& [field, own] : {std::pair("pipeline_parallel_first_stage_less_layers", first),
                                   std::pair("pipeline_parallel_last_stage_less_layers", last)}) {
    if (own > least) {
      return Refuse(field, own, " is more than the least that a stage gets, ", least, " = ", sum, " / ", stages,
                    " stages, rounded down; lower it");
    }
  }
  std::vector<StageRange> ranges;
  int64_t begin = 0;
  for (int64_t stage = 0; stage < stages; ++stage) {
    int64_t size = least + (stage < weight % stages ? 1 : 0);
    if (stage == 0) size += 1 - first;          // the embedding is one block, whatever it counts as
    if (stage == stages - 1) size += 1 - last;  // the head likewise
    ranges.push_back({begin, begin + size});
    begin += size;
  }
  CHECK_EQ(begin, blocks);
  return ranges;
}

// The names of the blocks in one entry. A head may be written by its two modules.
std::vector<std::string> BlocksOf(std::string_view entry) {
  std::vector<std::string> names;
  for (const std::string_view name : absl::StrSplit(entry, ',')) {
    names.emplace_back(absl::StripAsciiWhitespace(name));
  }
  const auto norm = std::find(names.begin(), names.end(), "norm");
  if (norm != names.end() && norm + 1 != names.end() && (norm[1] == "output" || norm[1] == "lm_head")) {
    *norm = "head";
    names.erase(norm + 1);
  }
  return names;
}

absl::StatusOr<std::vector<StageRange>> SplitByName(const ModelSpec& spec, const StageSplit& split) {
  constexpr std::string_view kField = "module_fqns_per_model_part";
  const int64_t blocks = static_cast<int64_t>(spec.blocks.size());
  const int64_t stages = static_cast<int64_t>(split.module_fqns_per_model_part.size());
  if (stages % split.ranks != 0) {
    return Refuse(kField, "has ", stages, " stages; their number must be a multiple of pipeline_parallel_degree (",
                  split.ranks, ")");
  }
  std::vector<StageRange> ranges;
  int64_t next = 0;
  for (int64_t stage = 0; stage < stages; ++stage) {
    const int64_t begin = next;
    for (const std::string& name : BlocksOf(split.module_fqns_per_model_part[stage])) {
      if (next == blocks || name != spec.blocks[next].name) {
        return Refuse(
            kField, "stage ", stage, " has \"", name, "\" where ",
            next == blocks ? "all blocks are taken" : absl::StrCat("\"", spec.blocks[next].name, "\" is next"),
            "; name each block once, in order: tok_embeddings, layers.0 to layers.", blocks - 3,
            ", head (or norm, output), norm and output in one stage");
      }
      ++next;
    }
    ranges.push_back({begin, next});
  }
  if (next < blocks) {
    return Refuse(kField, "no stage has \"", spec.blocks[next].name, "\"",
                  next + 1 < blocks ? absl::StrCat(" and the ", blocks - next - 1, " blocks behind it") : "",
                  "; add them to the last stage");
  }
  return ranges;
}

}  // namespace

absl::StatusOr<std::vector<StageRange>> SplitStages(const ModelSpec& spec, PipelineScheduleKind kind,
                                                    const StageSplit& split) {
  CHECK_GE(spec.blocks.size(), 3u);
  if (split.ranks < 1) return Refuse("pipeline_parallel_degree", split.ranks, " is below 1");
  if (split.first_stage_less_layers < 0 || split.last_stage_less_layers < 0 || split.layers_per_stage < 0) {
    return Refuse("pipeline_parallel_*_layers", "must not be negative");
  }
  if (!split.module_fqns_per_model_part.empty()) return SplitByName(spec, split);
  const int64_t blocks = static_cast<int64_t>(spec.blocks.size());
  TITAN_ASSIGN_OR_RETURN(const int64_t stages, NumStages(blocks - 2, kind, split));
  return SplitEvenly(blocks, stages, split);
}

}  // namespace titan
