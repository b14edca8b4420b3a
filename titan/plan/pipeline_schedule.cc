#include "titan/plan/pipeline_schedule.h"

#include <algorithm>
#include <utility>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

// The actions of one rank as they grow. Stages are named by their place on the rank; each counts its own microbatches,
// so that a schedule only says what comes next.
class RankActions {
 public:
  RankActions(std::vector<int64_t> stages, int64_t microbatches)
      : stages_(std::move(stages)), microbatches_(microbatches), next_(stages_.size()) {}

  void Forward(int64_t local) { Add(PipelineOp::kForward, local, next_[local].forward++); }
  void Backward(int64_t local) {
    Add(PipelineOp::kBackward, local, next_[local].input++);
    ++next_[local].weight;
  }
  void Input(int64_t local) {
    Add(PipelineOp::kBackwardInput, local, next_[local].input++);
    owed_.push_back(local);
  }
  void Weight(int64_t local) {
    const auto oldest = std::find(owed_.begin(), owed_.end(), local);
    CHECK(oldest != owed_.end());
    owed_.erase(oldest);
    Add(PipelineOp::kBackwardWeight, local, next_[local].weight++);
  }
  // The weight gradients that have waited longest.
  void OldestWeight() { Weight(owed_.front()); }

  int64_t num_forwards(int64_t local) const { return next_[local].forward; }
  int64_t num_inputs(int64_t local) const { return next_[local].input; }
  int64_t num_weights_owed() const { return static_cast<int64_t>(owed_.size()); }

  std::vector<PipelineAction> Take() { return std::move(actions_); }

 private:
  struct Next {
    int64_t forward = 0;
    int64_t input = 0;
    int64_t weight = 0;
  };

  // A schedule made for more microbatches than there are is the same without those beyond (ZBVZeroBubble).
  void Add(PipelineOp op, int64_t local, int64_t microbatch) {
    if (microbatch < microbatches_) actions_.push_back({op, stages_[local], microbatch});
  }

  const std::vector<int64_t> stages_;
  const int64_t microbatches_;
  std::vector<Next> next_;     // of each stage
  std::vector<int64_t> owed_;  // stages with input gradients, but not yet weight gradients, oldest first
  std::vector<PipelineAction> actions_;
};

struct Shape {
  int64_t ranks;
  int64_t stages;
  int64_t microbatches;
};

// All forwards, then all backwards.
void GPipe(const Shape& shape, RankActions& actions) {
  for (int64_t m = 0; m < shape.microbatches; ++m) actions.Forward(0);
  for (int64_t m = 0; m < shape.microbatches; ++m) actions.Backward(0);
}

// As many forwards as there are stages from here to the end; from then on one backward for each forward, so that no
// more microbatches than that are alive.
void OneForwardOneBackward(const Shape& shape, int64_t rank, RankActions& actions) {
  const int64_t warmup = std::min(shape.ranks - rank, shape.microbatches);
  for (int64_t m = 0; m < warmup; ++m) actions.Forward(0);
  for (int64_t m = 0; m < shape.microbatches; ++m) {
    actions.Backward(0);
    if (warmup + m < shape.microbatches) actions.Forward(0);
  }
}

// Stage by stage, all microbatches of one before the next. Backwards mirror the forwards, the last microbatch first.
std::vector<PipelineAction> LoopedBFS(const Shape& shape, const std::vector<int64_t>& stages) {
  std::vector<PipelineAction> actions;
  for (const int64_t stage : stages) {
    for (int64_t m = 0; m < shape.microbatches; ++m) actions.push_back({PipelineOp::kForward, stage, m});
  }
  const size_t forwards = actions.size();
  for (size_t i = forwards; i-- > 0;) {
    actions.push_back({PipelineOp::kBackward, actions[i].stage, actions[i].microbatch});
  }
  return actions;
}

// Megatron-LM goes through the microbatches in rounds of (about) `ranks`: a round passes the first stage of each rank,
// then the second of each, and so on, before the next round begins; backwards do the same from the last stage.
int64_t NumRounds(const Shape& shape) { return std::max<int64_t>(1, shape.microbatches / shape.ranks); }

// `hops` is how many further forwards a rank runs, for each rank between it and the last, before its first backward:
// two when the first backward has to come back through full backwards. With `split`, input gradients go back alone, and
// rank r's weight gradients follow r input gradients later, into what would be bubbles; so the first rank keeps as many
// microbatches alive as without the split, and the others no more than that.
void Interleaved(const Shape& shape, int64_t rank, bool split, RankActions& actions) {
  const int64_t local_stages = shape.stages / shape.ranks;
  const int64_t round = shape.microbatches / NumRounds(shape);
  const int64_t total = local_stages * shape.microbatches;
  const int64_t hops = split ? 1 : 2;
  const int64_t warmup = std::min(total, (local_stages - 1) * round + hops * (shape.ranks - 1 - rank));
  for (int64_t i = 0; i < total + warmup; ++i) {
    if (i < total) actions.Forward(i / round % local_stages);
    if (i < warmup) continue;
    const int64_t backward = i - warmup;
    const int64_t local = local_stages - 1 - backward / round % local_stages;
    if (!split) {
      actions.Backward(local);
    } else {
      actions.Input(local);
      if (backward >= rank) actions.OldestWeight();
    }
  }
  while (actions.num_weights_owed() > 0) actions.OldestWeight();
}

// Rank r has the stages r ("down", going away from the first rank) and 2R - 1 - r ("up", coming back), so that the
// first rank has the loss. In the steady state each rank alternates between the two, and a microbatch's weight
// gradients fill what its neighbours would wait for.
void ZBVZeroBubble(const Shape& shape, int64_t rank, RankActions& actions) {
  constexpr int64_t kDown = 0;
  constexpr int64_t kUp = 1;
  // Fewer microbatches do not fill the pipeline; the schedule is that of this many without the others.
  const int64_t microbatches = std::max(shape.microbatches, 2 * shape.ranks - 1);
  for (int64_t i = 0; i < 2 * (shape.ranks - rank) - 1; ++i) actions.Forward(kDown);
  for (int64_t i = 0; i < rank; ++i) {
    actions.Forward(kUp);
    actions.Forward(kDown);
  }
  const auto backward = [&](int64_t local) {
    actions.Input(local);
    actions.Weight(local);
  };
  for (int64_t i = 0; i < shape.ranks - rank; ++i) {
    actions.Forward(kUp);
    backward(kUp);
  }
  while (actions.num_forwards(kUp) < microbatches) {
    if (actions.num_forwards(kDown) < microbatches) actions.Forward(kDown);
    backward(kDown);
    actions.Forward(kUp);
    backward(kUp);
  }
  // Input gradients first: the ranks before wait for them, nobody waits for weight gradients.
  for (int64_t i = 0; i < rank; ++i) {
    actions.Input(kDown);
    actions.Input(kUp);
  }
  for (int64_t i = 0; i < shape.ranks - rank; ++i) backward(kDown);
  while (actions.num_weights_owed() > 0) actions.OldestWeight();
}

// The V of ZBVZeroBubble, but with a forward of one stage beside a full backward of the other wherever that goes, so
// that the messages of one are hidden behind the computation of the other. In eight steps, as in DeepSeek's
// publication.
void DualPipeV(const Shape& shape, int64_t rank, RankActions& actions) {
  constexpr int64_t kDown = 0;
  constexpr int64_t kUp = 1;
  const int64_t after = shape.ranks - 1 - rank;  // ranks behind this one
  for (int64_t i = 0; i < 2 * after; ++i) actions.Forward(kDown);
  for (int64_t i = 0; i < rank + 1; ++i) {
    actions.Forward(kDown);
    actions.Forward(kUp);
  }
  for (int64_t i = 0; i < after; ++i) {
    actions.Input(kUp);
    actions.Weight(kUp);
    actions.Forward(kUp);
  }
  for (int64_t i = 0; i < shape.microbatches - 2 * shape.ranks + rank + 1; ++i) {
    actions.Forward(kDown);
    actions.Backward(kUp);
    actions.Forward(kUp);
    actions.Backward(kDown);
  }
  for (int64_t i = 0; i < after; ++i) {
    actions.Backward(kUp);
    actions.Forward(kUp);
    actions.Backward(kDown);
  }
  // The second half of these leaves its weight gradients to the end.
  for (int64_t i = 0; i < 2 * (rank + 1); ++i) {
    const int64_t local = i % 2 == 0 ? kUp : kDown;
    if (i < rank + 1) {
      actions.Backward(local);
    } else {
      actions.Input(local);
    }
  }
  for (int64_t i = 0; i < after; ++i) {
    actions.OldestWeight();
    actions.Input(kDown);
  }
  while (actions.num_weights_owed() > 0) actions.OldestWeight();
}

std::vector<PipelineAction> ActionsOf(PipelineScheduleKind kind, const Shape& shape, int64_t rank,
                                      const std::vector<int64_t>& stages) {
  if (kind == PipelineScheduleKind::kLoopedBFS) return LoopedBFS(shape, stages);
  RankActions actions(stages, shape.microbatches);
  switch (kind) {
    case PipelineScheduleKind::kGPipe:
      GPipe(shape, actions);
      break;
    case PipelineScheduleKind::k1F1B:
      OneForwardOneBackward(shape, rank, actions);
      break;
    case PipelineScheduleKind::kInterleaved1F1B:
      Interleaved(shape, rank, /*split=*/false, actions);
      break;
    case PipelineScheduleKind::kInterleavedZeroBubble:
      Interleaved(shape, rank, /*split=*/true, actions);
      break;
    case PipelineScheduleKind::kZBVZeroBubble:
      ZBVZeroBubble(shape, rank, actions);
      break;
    case PipelineScheduleKind::kDualPipeV:
      DualPipeV(shape, rank, actions);
      break;
    case PipelineScheduleKind::kLoopedBFS:
      break;  // above
  }
  return actions.Take();
}

absl::Status CheckShape(PipelineScheduleKind kind, const Shape& shape) {
  const auto refuse = [&](auto... what) {
    return absl::InvalidArgumentError(
        absl::StrCat("pipeline schedule ", std::string(PipelineScheduleName(kind)), ": ", what...));
  };
  const auto& [ranks, stages, microbatches] = shape;
  if (ranks < 1) return refuse("needs at least 1 rank, not ", ranks);
  if (microbatches < 1) return refuse("needs at least 1 microbatch, not ", microbatches);
  if (stages < ranks || stages % ranks != 0) {
    return refuse("the number of stages (", stages, ") must be a multiple of the number of ranks (", ranks,
                  "); change pipeline_parallel_layers_per_stage or pipeline_parallel_degree");
  }
  const int64_t per_rank = stages / ranks;
  if (HasOneStagePerRank(kind) && per_rank != 1) {
    return refuse("takes exactly 1 stage per rank, not ", per_rank, " (", stages, " stages on ", ranks,
                  " ranks); raise pipeline_parallel_layers_per_stage or take a schedule with several stages per rank "
                  "(Interleaved1F1B)");
  }
  if (HasVPlacement(kind) && per_rank != 2) {
    return refuse("takes exactly 2 stages per rank, not ", per_rank, " (", stages, " stages on ", ranks,
                  " ranks); change pipeline_parallel_layers_per_stage");
  }
  if (!HasOneStagePerRank(kind) && per_rank < 2) {
    return refuse(
        "takes at least 2 stages per rank, not ", per_rank, " (", stages, " stages on ", ranks,
        " ranks); lower pipeline_parallel_layers_per_stage or take a schedule with one stage per rank (1F1B)");
  }
  if (kind == PipelineScheduleKind::kDualPipeV && microbatches < 2 * ranks) {
    return refuse("takes at least as many microbatches as stages (", stages, "), not ", microbatches,
                  "; raise training.local_batch_size or lower pipeline_parallel_microbatch_size");
  }
  const bool rounds =
      kind == PipelineScheduleKind::kInterleaved1F1B || kind == PipelineScheduleKind::kInterleavedZeroBubble;
  if (rounds && microbatches % NumRounds(shape) != 0) {
    return refuse("goes through the microbatches in ", NumRounds(shape), " rounds (", microbatches, " microbatches / ",
                  ranks, " ranks, rounded down), which does not divide the ", microbatches,
                  " microbatches; take a multiple of ", ranks);
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<PipelineScheduleKind>& AllPipelineScheduleKinds() {
  static const auto* const kinds = new std::vector<PipelineScheduleKind>{
      PipelineScheduleKind::kGPipe,
      PipelineScheduleKind::k1F1B,
      PipelineScheduleKind::kInterleaved1F1B,
      PipelineScheduleKind::kLoopedBFS,
      PipelineScheduleKind::kInterleavedZeroBubble,
      PipelineScheduleKind::kZBVZeroBubble,
      PipelineScheduleKind::kDualPipeV,
  };
  return *kinds;
}

std::string_view PipelineScheduleName(PipelineScheduleKind kind) {
  switch (kind) {
    case PipelineScheduleKind::k1F1B:
      return "1F1B";
    case PipelineScheduleKind::kGPipe:
      return "GPipe";
    case PipelineScheduleKind::kInterleaved1F1B:
      return "Interleaved1F1B";
    case PipelineScheduleKind::kLoopedBFS:
      return "LoopedBFS";
    case PipelineScheduleKind::kInterleavedZeroBubble:
      return "InterleavedZeroBubble";
    case PipelineScheduleKind::kZBVZeroBubble:
      return "ZBVZeroBubble";
    case PipelineScheduleKind::kDualPipeV:
      return "DualPipeV";
  }
  LOG(FATAL) << "no such pipeline schedule: " << static_cast<int>(kind);
}

bool HasOneStagePerRank(PipelineScheduleKind kind) {
  return kind == PipelineScheduleKind::kGPipe || kind == PipelineScheduleKind::k1F1B;
}

bool HasVPlacement(PipelineScheduleKind kind) {
  return kind == PipelineScheduleKind::kZBVZeroBubble || kind == PipelineScheduleKind::kDualPipeV;
}

absl::StatusOr<PipelineSchedule> MakePipelineSchedule(PipelineScheduleKind kind, int64_t ranks, int64_t stages,
                                                      int64_t microbatches) {
  const Shape shape = {ranks, stages, microbatches};
  TITAN_RETURN_IF_ERROR(CheckShape(kind, shape));
  PipelineSchedule schedule;
  schedule.name = PipelineScheduleName(kind);
  schedule.num_ranks = ranks;
  schedule.num_stages = stages;
  schedule.num_microbatches = microbatches;
  std::vector<std::vector<int64_t>> stages_of(ranks);
  for (int64_t stage = 0; stage < stages; ++stage) {
    const int64_t rank = HasVPlacement(kind) && stage >= ranks ? stages - 1 - stage : stage % ranks;
    schedule.rank_of_stage.push_back(rank);
    stages_of[rank].push_back(stage);
  }
  for (int64_t rank = 0; rank < ranks; ++rank) {
    schedule.actions.push_back(ActionsOf(kind, shape, rank, stages_of[rank]));
  }
  CHECK_OK(CheckPipelineSchedule(schedule));
  return schedule;
}

PipelineSchedule ForwardOnlySchedule(const PipelineSchedule& schedule, int64_t num_microbatches) {
  PipelineSchedule forward = schedule;
  forward.name = "forward only";
  forward.num_microbatches = num_microbatches;
  forward.actions.assign(schedule.num_ranks, {});
  for (int64_t stage = 0; stage < schedule.num_stages; ++stage) {
    std::vector<PipelineAction>& actions = forward.actions[schedule.rank_of_stage[stage]];
    for (int64_t microbatch = 0; microbatch < num_microbatches; ++microbatch) {
      actions.push_back({PipelineOp::kForward, stage, microbatch});
    }
  }
  return forward;
}

std::string ToString(const PipelineAction& action) {
  constexpr std::string_view kLetters = "FBIW";  // in the order of PipelineOp
  return absl::StrCat(action.stage, kLetters.substr(static_cast<size_t>(action.op), 1), action.microbatch);
}

std::vector<PipelineAction> ReceivesInSendOrder(const PipelineSchedule& schedule, int64_t from, int64_t to) {
  CHECK_NE(from, to);
  // The backward of each (stage, microbatch) of `to`: full, or of the inputs alone.
  std::vector<PipelineOp> backward(schedule.num_stages * schedule.num_microbatches, PipelineOp::kBackward);
  for (const auto& [op, stage, microbatch] : schedule.actions[to]) {
    if (op == PipelineOp::kBackwardInput) backward[stage * schedule.num_microbatches + microbatch] = op;
  }
  const auto is_there = [&](int64_t stage) {
    return stage >= 0 && stage < schedule.num_stages && schedule.rank_of_stage[stage] == to;
  };
  std::vector<PipelineAction> receives;
  for (const auto& [op, stage, microbatch] : schedule.actions[from]) {
    if (op == PipelineOp::kForward) {
      if (is_there(stage + 1)) receives.push_back({op, stage + 1, microbatch});
    } else if (op != PipelineOp::kBackwardWeight && is_there(stage - 1)) {
      const int64_t before = stage - 1;
      receives.push_back({backward[before * schedule.num_microbatches + microbatch], before, microbatch});
    }
  }
  return receives;
}

}  // namespace titan
