#include "titan/plan/pipeline_run.h"

#include <algorithm>
#include <optional>

namespace titan {
namespace {

double CostOf(PipelineOp op, const PipelineCosts& costs) {
  switch (op) {
    case PipelineOp::kForward:
      return costs.forward;
    case PipelineOp::kBackward:
      return costs.backward_input + costs.backward_weight;
    case PipelineOp::kBackwardInput:
      return costs.backward_input;
    case PipelineOp::kBackwardWeight:
      return costs.backward_weight;
  }
  return 0;
}

}  // namespace

PipelineActionIndex::PipelineActionIndex(const PipelineSchedule& schedule)
    : num_stages_(schedule.num_stages),
      num_microbatches_(schedule.num_microbatches),
      entries_(schedule.num_stages * schedule.num_microbatches) {
  for (int64_t rank = 0; rank < schedule.num_ranks; ++rank) {
    for (size_t i = 0; i < schedule.actions[rank].size(); ++i) {
      const PipelineAction& action = schedule.actions[rank][i];
      Entry& entry = entries_[action.stage * num_microbatches_ + action.microbatch];
      const Place place = {rank, static_cast<int64_t>(i)};
      if (action.op == PipelineOp::kForward) entry.forward = place;
      if (action.op == PipelineOp::kBackward || action.op == PipelineOp::kBackwardInput) entry.input = place;
    }
  }
}

std::array<PipelineActionIndex::Place, 2> PipelineActionIndex::Needs(const PipelineAction& action) const {
  const auto& [op, stage, microbatch] = action;
  switch (op) {
    case PipelineOp::kForward:
      return {stage > 0 ? At(stage - 1, microbatch).forward : Place(), Place()};
    case PipelineOp::kBackward:
    case PipelineOp::kBackwardInput:
      return {At(stage, microbatch).forward, stage + 1 < num_stages_ ? At(stage + 1, microbatch).input : Place()};
    case PipelineOp::kBackwardWeight:
      return {At(stage, microbatch).input, Place()};
  }
  return {};
}

PipelineTimes RunUntilStuck(const PipelineSchedule& schedule, const PipelineActionIndex& index,
                            const PipelineCosts& costs) {
  PipelineTimes times(schedule.num_ranks);
  // When `rank` can start its next action; nothing if something that it needs has not run.
  const auto start_of_next = [&](int64_t rank) -> std::optional<double> {
    double start = times[rank].empty() ? 0 : times[rank].back().end;
    for (const PipelineActionIndex::Place& need : index.Needs(schedule.actions[rank][times[rank].size()])) {
      if (!need.found()) continue;
      if (need.position >= static_cast<int64_t>(times[need.rank].size())) return std::nullopt;
      start = std::max(start, times[need.rank][need.position].end + (need.rank == rank ? 0 : costs.send));
    }
    return start;
  };
  bool progress = true;
  while (progress) {
    progress = false;
    for (int64_t rank = 0; rank < schedule.num_ranks; ++rank) {
      const std::vector<PipelineAction>& actions = schedule.actions[rank];
      while (times[rank].size() < actions.size()) {
        const std::optional<double> start = start_of_next(rank);
        if (!start) break;
        times[rank].push_back({*start, *start + CostOf(actions[times[rank].size()].op, costs)});
        progress = true;
      }
    }
  }
  return times;
}

}  // namespace titan
