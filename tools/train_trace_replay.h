// Replays a recorded training run with the trainer's own code, for comparison with the numbers of another
// implementation. A trace is a folder:
//
//   batches.safetensors  tokens (steps, rows, S+1) and labels (steps, rows, S), int64; labels are already shifted, -100
//                        where there is none
//   trace.json           {"settings": {...}}: S, steps, global_batch, accum (microbatches), lr, betas, eps,
//                        weight_decay, max_norm, warmup, decay_ratio (or null), decay_type, min_lr_factor
//
//   TITAN_ASSIGN_OR_RETURN(const NamedTensors out, ReplayTrace("/models/tiny", "/traces/tiny", {.fp64 = true}));

#ifndef TITAN_TOOLS_TRAIN_TRACE_REPLAY_H_
#define TITAN_TOOLS_TRAIN_TRACE_REPLAY_H_

#include <string>

#include "absl/status/statusor.h"
#include "titan/checkpoint/tensors.h"

namespace titan {

struct ReplayOptions {
  bool fp64 = false;
  bool states = false;  // also exp_avg.<name> and exp_avg_sq.<name>
};

// Trains the model of `hf_dir` on every batch of `trace`. Returns `loss`, `grad_norm`, `lr` (steps), fp64, and
// `param.<Hugging Face name>` after the last step, of the dtype that was trained in.
absl::StatusOr<NamedTensors> ReplayTrace(const std::string& hf_dir, const std::string& trace,
                                         const ReplayOptions& options);

}  // namespace titan

#endif  // TITAN_TOOLS_TRAIN_TRACE_REPLAY_H_
