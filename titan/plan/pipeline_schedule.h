// A pipeline schedule as data: what each rank computes, in which order. Made here (or read from a CSV file), checked
// here, drawn by pipeline_timeline.h, and run by one executor. No LibTorch here.
//
//   absl::StatusOr<PipelineSchedule> schedule =
//       MakePipelineSchedule(PipelineScheduleKind::k1F1B, /*ranks=*/2, /*stages=*/2, /*microbatches=*/3);
//   ToCsv(*schedule);  // 0F0,0F1,0B0,0F2,0B1,0B2
//                      // 1F0,1B0,1F1,1B1,1F2,1B2
//
// A model is cut into `num_stages` stages, ranges of blocks (pipeline_stages.h). Activations travel from stage s to
// stage s + 1, their gradients back. Messages are not part of a schedule, they follow from it: a forward of stage s > 0
// receives from the rank of stage s - 1, a backward (full or input) of stage s < num_stages - 1 from the rank of stage
// s + 1; none is needed between stages of one rank.

#ifndef TITAN_PLAN_PIPELINE_SCHEDULE_H_
#define TITAN_PLAN_PIPELINE_SCHEDULE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

// torchtitan's names, as in parallelism.pipeline_parallel_schedule.
enum class PipelineScheduleKind {
  k1F1B,                   // PipeDream-Flush: arXiv:1806.03377, arXiv:2104.04473
  kGPipe,                  // arXiv:1811.06965
  kInterleaved1F1B,        // Megatron-LM: arXiv:2104.04473
  kLoopedBFS,              // breadth-first: arXiv:2211.05953
  kInterleavedZeroBubble,  // ZB-H1 (arXiv:2401.10241) over several stages per rank
  kZBVZeroBubble,          // ZB-V: arXiv:2405.15362, arXiv:2401.10241
  kDualPipeV,              // DualPipe (arXiv:2412.19437) folded into a V
};

enum class PipelineOp {
  kForward,
  kBackward,        // gradients of inputs and of weights
  kBackwardInput,   // gradients of inputs alone
  kBackwardWeight,  // gradients of weights alone, at any time after kBackwardInput
};

struct PipelineAction {
  PipelineOp op = PipelineOp::kForward;
  int64_t stage = 0;  // of the whole pipeline, not of the rank
  int64_t microbatch = 0;

  friend bool operator==(const PipelineAction&, const PipelineAction&) = default;
};

struct PipelineSchedule {
  std::string name;
  int64_t num_ranks = 0;
  int64_t num_stages = 0;
  int64_t num_microbatches = 0;
  std::vector<int64_t> rank_of_stage;                // (num_stages)
  std::vector<std::vector<PipelineAction>> actions;  // (num_ranks, any): of each rank, in the order it runs them
};

// "1F1B", "GPipe", "Interleaved1F1B", "LoopedBFS", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV".
std::string_view PipelineScheduleName(PipelineScheduleKind kind);
const std::vector<PipelineScheduleKind>& AllPipelineScheduleKinds();

// Whether a rank has exactly one stage (GPipe, 1F1B).
bool HasOneStagePerRank(PipelineScheduleKind kind);
// Whether rank r of R holds the stages r and 2R - 1 - r (ZBVZeroBubble, DualPipeV); otherwise it holds r, r + R, ...
bool HasVPlacement(PipelineScheduleKind kind);

// A schedule that passes CheckPipelineSchedule. InvalidArgument says which of the numbers does not go with `kind`:
//   GPipe, 1F1B                 stages == ranks
//   Interleaved*, LoopedBFS     stages a multiple of ranks, at least 2 * ranks
//   Interleaved*                microbatches a multiple of the rounds, max(1, microbatches / ranks rounded down)
//   ZBVZeroBubble, DualPipeV    stages == 2 * ranks
//   DualPipeV                   microbatches >= 2 * ranks
// DualPipeV runs a forward of one stage and a backward of the other together: they are neighbours in that order.
absl::StatusOr<PipelineSchedule> MakePipelineSchedule(PipelineScheduleKind kind, int64_t ranks, int64_t stages,
                                                      int64_t microbatches);

// Forwards alone, of `num_microbatches` microbatches through the stages of `schedule` where they lie: what validation
// runs. A rank runs the first of its stages for all microbatches, then the next one, so that no stage waits for one
// that comes after it. It fails CheckPipelineSchedule, which wants backwards.
PipelineSchedule ForwardOnlySchedule(const PipelineSchedule& schedule, int64_t num_microbatches);

// "2F0": stage, letter (F forward, B backward, I input gradients, W weight gradients), microbatch. torch's notation.
std::string ToString(const PipelineAction& action);

// torch's compute-only CSV: a line per rank, a cell per action, cells may be empty (idle); "(0F1;3B0)OVERLAP_F_B" is
// read as 0F1,3B0. The placement of the stages
// follows from the file. Only the cells are checked here (InvalidArgument names line and cell, both from 1), not
// whether they make a schedule: that is CheckPipelineSchedule's.
absl::StatusOr<PipelineSchedule> ParsePipelineScheduleCsv(std::string_view text, int64_t ranks, int64_t stages,
                                                          int64_t microbatches);
// Without empty cells. ParsePipelineScheduleCsv gives the same actions and placement back.
std::string ToCsv(const PipelineSchedule& schedule);

// The forwards and backwards of rank `to` that wait for a message of rank `from`, in the order in which `from` sends.
// `to` may run them in another order: with the V placement, and with loops over 2 ranks, activations and gradients go
// the same way. Within the activations, and within the gradients, MakePipelineSchedule's orders are the same.
std::vector<PipelineAction> ReceivesInSendOrder(const PipelineSchedule& schedule, int64_t from, int64_t to);

// OK if every (stage, microbatch) runs forward once and backward once (full, or input and weight gradients once each,
// in this order) on the rank that has the stage, and if the whole ends when each rank runs its actions in order, waits
// for what an action needs, and never waits for a send. InvalidArgument names the action that is wrong, or who waits
// for whom.
absl::Status CheckPipelineSchedule(const PipelineSchedule& schedule);

}  // namespace titan

#endif  // TITAN_PLAN_PIPELINE_SCHEDULE_H_
