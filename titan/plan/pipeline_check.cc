// CheckPipelineSchedule: what is there, then whether it can run.

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/base/status_macros.h"
#include "titan/plan/pipeline_run.h"
#include "titan/plan/pipeline_schedule.h"

namespace titan {
namespace {

template <typename... What>
absl::Status Refuse(const PipelineSchedule& schedule, const What&... what) {
  return absl::InvalidArgumentError(absl::StrCat("pipeline schedule ", schedule.name, ": ", what...));
}

// "rank 1, action 5 (2B0)"; actions are counted from 1, as the cells of a CSV without empty ones.
std::string Where(const PipelineSchedule& schedule, const PipelineActionIndex::Place& place) {
  return absl::StrCat("rank ", place.rank, ", action ", place.position + 1, " (",
                      ToString(schedule.actions[place.rank][place.position]), ")");
}

absl::Status CheckSizes(const PipelineSchedule& schedule) {
  if (schedule.num_ranks < 1 || schedule.num_stages < 1 || schedule.num_microbatches < 1) {
    return Refuse(schedule, "needs at least 1 rank, 1 stage and 1 microbatch, not ", schedule.num_ranks, ", ",
                  schedule.num_stages, " and ", schedule.num_microbatches);
  }
  if (static_cast<int64_t>(schedule.actions.size()) != schedule.num_ranks) {
    return Refuse(schedule, "has the actions of ", schedule.actions.size(), " ranks, but ", schedule.num_ranks,
                  " ranks");
  }
  if (static_cast<int64_t>(schedule.rank_of_stage.size()) != schedule.num_stages) {
    return Refuse(schedule, "places ", schedule.rank_of_stage.size(), " stages, but has ", schedule.num_stages);
  }
  std::vector<bool> used(schedule.num_ranks);
  for (int64_t stage = 0; stage < schedule.num_stages; ++stage) {
    const int64_t rank = schedule.rank_of_stage[stage];
    if (rank < 0 || rank >= schedule.num_ranks) {
      return Refuse(schedule, "stage ", stage, " is on rank ", rank, ", of ranks 0 to ", schedule.num_ranks - 1);
    }
    used[rank] = true;
  }
  for (int64_t rank = 0; rank < schedule.num_ranks; ++rank) {
    if (!used[rank]) return Refuse(schedule, "rank ", rank, " has no stage; give it one or use fewer ranks");
  }
  return absl::OkStatus();
}

absl::Status CheckEachAction(const PipelineSchedule& schedule) {
  for (int64_t rank = 0; rank < schedule.num_ranks; ++rank) {
    for (size_t i = 0; i < schedule.actions[rank].size(); ++i) {
      const PipelineAction& action = schedule.actions[rank][i];
      const std::string where = Where(schedule, {rank, static_cast<int64_t>(i)});
      if (action.stage < 0 || action.stage >= schedule.num_stages) {
        return Refuse(schedule, where, ": there are the stages 0 to ", schedule.num_stages - 1);
      }
      if (action.microbatch < 0 || action.microbatch >= schedule.num_microbatches) {
        return Refuse(schedule, where, ": there are the microbatches 0 to ", schedule.num_microbatches - 1);
      }
      if (const int64_t owner = schedule.rank_of_stage[action.stage]; owner != rank) {
        return Refuse(schedule, where, ": stage ", action.stage, " is on rank ", owner);
      }
    }
  }
  return absl::OkStatus();
}

// One stage and one microbatch: each computation once, in an order that its rank can run. `found` has the positions of
// its actions on that rank, by op.
absl::Status CheckOnce(const PipelineSchedule& schedule, int64_t stage, int64_t microbatch,
                       const std::vector<std::vector<int64_t>>& found) {
  const int64_t rank = schedule.rank_of_stage[stage];
  const auto name = [&](PipelineOp op) { return ToString({op, stage, microbatch}); };
  const auto positions = [&](PipelineOp op) -> const std::vector<int64_t>& { return found[static_cast<size_t>(op)]; };
  for (const PipelineOp op :
       {PipelineOp::kForward, PipelineOp::kBackward, PipelineOp::kBackwardInput, PipelineOp::kBackwardWeight}) {
    if (positions(op).size() < 2) continue;
    return Refuse(schedule, name(op), " must run once, but rank ", rank, " has it as actions ", positions(op)[0] + 1,
                  " and ", positions(op)[1] + 1);
  }
  if (positions(PipelineOp::kForward).empty()) {
    return Refuse(schedule, "the forward ", name(PipelineOp::kForward), " is missing on rank ", rank);
  }
  const bool full = !positions(PipelineOp::kBackward).empty();
  const bool input = !positions(PipelineOp::kBackwardInput).empty();
  const bool weight = !positions(PipelineOp::kBackwardWeight).empty();
  const std::string both = absl::StrCat(name(PipelineOp::kBackwardInput), " and ", name(PipelineOp::kBackwardWeight));
  if (full && (input || weight)) {
    return Refuse(schedule, "rank ", rank, " has the full backward ", name(PipelineOp::kBackward), " and also ",
                  name(input ? PipelineOp::kBackwardInput : PipelineOp::kBackwardWeight), "; it is either ",
                  name(PipelineOp::kBackward), " or ", both);
  }
  if (!full && !(input && weight)) {
    return Refuse(schedule, "rank ", rank, " lacks ",
                  input    ? name(PipelineOp::kBackwardWeight)
                  : weight ? name(PipelineOp::kBackwardInput)
                           : absl::StrCat("the backward ", name(PipelineOp::kBackward), " (or ", both, ")"));
  }
  const PipelineOp first = full ? PipelineOp::kBackward : PipelineOp::kBackwardInput;
  const auto too_early = [&](PipelineOp early, PipelineOp late) {
    return Refuse(schedule, Where(schedule, {rank, positions(early)[0]}), " comes before what it needs, ", name(late),
                  ", action ", positions(late)[0] + 1, " of the same rank");
  };
  if (positions(first)[0] < positions(PipelineOp::kForward)[0]) return too_early(first, PipelineOp::kForward);
  if (weight && positions(PipelineOp::kBackwardWeight)[0] < positions(first)[0]) {
    return too_early(PipelineOp::kBackwardWeight, first);
  }
  return absl::OkStatus();
}

absl::Status CheckCounts(const PipelineSchedule& schedule) {
  constexpr size_t kOps = 4;
  std::vector<std::vector<std::vector<int64_t>>> found(schedule.num_stages * schedule.num_microbatches,
                                                       std::vector<std::vector<int64_t>>(kOps));
  for (const std::vector<PipelineAction>& actions : schedule.actions) {
    for (size_t i = 0; i < actions.size(); ++i) {
      const auto& [op, stage, microbatch] = actions[i];
      found[stage * schedule.num_microbatches + microbatch][static_cast<size_t>(op)].push_back(i);
    }
  }
  for (int64_t stage = 0; stage < schedule.num_stages; ++stage) {
    for (int64_t microbatch = 0; microbatch < schedule.num_microbatches; ++microbatch) {
      TITAN_RETURN_IF_ERROR(
          CheckOnce(schedule, stage, microbatch, found[stage * schedule.num_microbatches + microbatch]));
    }
  }
  return absl::OkStatus();
}

// Follows who waits for whom from the first rank that is stuck, until a rank comes up again.
absl::Status CheckRuns(const PipelineSchedule& schedule) {
  const PipelineActionIndex index(schedule);
  const PipelineTimes times = RunUntilStuck(schedule, index, PipelineCosts());
  const auto stuck = [&](int64_t rank) { return times[rank].size() < schedule.actions[rank].size(); };
  int64_t rank = 0;
  while (rank < schedule.num_ranks && !stuck(rank)) ++rank;
  if (rank == schedule.num_ranks) return absl::OkStatus();
  std::vector<std::string> chain;
  std::set<int64_t> seen;
  while (seen.insert(rank).second) {
    const PipelineActionIndex::Place here = {rank, static_cast<int64_t>(times[rank].size())};
    for (const PipelineActionIndex::Place& need : index.Needs(schedule.actions[here.rank][here.position])) {
      if (!need.found() || need.position < static_cast<int64_t>(times[need.rank].size())) continue;
      chain.push_back(absl::StrCat(Where(schedule, here), " waits for ", Where(schedule, need)));
      rank = need.rank;
      break;
    }
  }
  return Refuse(schedule, "deadlock: ", absl::StrJoin(chain, "; "), "; change the order of these actions");
}

}  // namespace

absl::Status CheckPipelineSchedule(const PipelineSchedule& schedule) {
  TITAN_RETURN_IF_ERROR(CheckSizes(schedule));
  TITAN_RETURN_IF_ERROR(CheckEachAction(schedule));
  TITAN_RETURN_IF_ERROR(CheckCounts(schedule));
  return CheckRuns(schedule);
}

}  // namespace titan
