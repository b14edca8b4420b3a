// One forward (and backward) pass of a Hugging Face folder on given tokens, with the trainer's own model and walk.
//
//   TITAN_ASSIGN_OR_RETURN(const NamedTensors out, ForwardHf("/models/Llama-3.2-1B", inputs, {.backward = true}));

#ifndef TITAN_TOOLS_FORWARD_HF_H_
#define TITAN_TOOLS_FORWARD_HF_H_

#include <ATen/core/Tensor.h>

#include <string>

#include "absl/status/statusor.h"
#include "titan/checkpoint/tensors.h"

namespace titan {

struct ForwardOptions {
  at::ScalarType dtype = at::kFloat;  // of weights and computation: kFloat or kDouble
  bool packed = false;                // documents as packed.document_ids / packed.position_ids say
  bool backward = false;              // gradients of the loss too
  bool hidden = false;                // the output of every block but the head too
};

// `inputs`: `input_ids` and `labels` (B, S) int64, labels already shifted, -100 where there is none; optionally
// `position_ids` (B, S), which restart at 0 where a document does, or `document_ids` (B, S), which change there. With
// `packed` these two are looked up as packed.position_ids and packed.document_ids, and one must be there.
// Returns `logits` (B, S, V), `loss` (1), the mean over valid labels; `grad.<Hugging Face name>` of each parameter;
// `hidden.i` (B, S, D). All of options.dtype.
absl::StatusOr<NamedTensors> ForwardHf(const std::string& hf_dir, const NamedTensors& inputs,
                                       const ForwardOptions& options);

}  // namespace titan

#endif  // TITAN_TOOLS_FORWARD_HF_H_
