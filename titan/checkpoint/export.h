// The model of a checkpoint for others: as a Hugging Face folder, or as a state dict of PyTorch. What the model is, the
// checkpoint says itself (experiment.binpb).
//
//   TITAN_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint("out/checkpoint/step-500"));
//   TITAN_RETURN_IF_ERROR(ExportHf(checkpoint, "/models/mine", at::kBFloat16));

#ifndef TITAN_CHECKPOINT_EXPORT_H_
#define TITAN_CHECKPOINT_EXPORT_H_

#include <string>

#include "absl/status/status.h"
#include "titan/checkpoint/hf.h"
#include "titan/checkpoint/store.h"

namespace titan {

// As WriteHf, one tensor in memory at a time. InvalidArgument also for a checkpoint without its experiment.
absl::Status ExportHf(const Checkpoint& checkpoint, const std::string& dir, at::ScalarType dtype,
                      HfWriteOptions options = {});

// Replaces the file `path` as a whole by the model's state dict, under the names of the Hugging Face library
// (ToHfNames): torch.load(path, weights_only=True) gives what LlamaForCausalLM.load_state_dict takes.
absl::Status ExportTorchFile(const Checkpoint& checkpoint, const std::string& path, at::ScalarType dtype);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_EXPORT_H_
