// State dicts as torch.save writes them (.pt): a zip archive with a pickle, of which nothing is executed, and one entry
// for each storage. See torch_zip.h and torch_pickle.h for what is read, and what is refused.
//
//   TITAN_ASSIGN_OR_RETURN(const NamedTensors tensors, ReadTorchFile("model.pt"));
//   TITAN_RETURN_IF_ERROR(WriteTorchFile("out.pt", tensors, at::kBFloat16));  // torch.load("out.pt")

#ifndef TITAN_CHECKPOINT_TORCH_FILE_H_
#define TITAN_CHECKPOINT_TORCH_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/checkpoint/tensors.h"

namespace titan {

// All tensors, in the order of the dict, on the CPU, with their own strides. They are views of the mapped file where
// its alignment allows it, and keep it open; those of one storage share its memory. The memory is read-only: writing in
// place ends the process. InvalidArgument or DataLoss names the file, and the entry, the instruction or the tensor.
absl::StatusOr<NamedTensors> ReadTorchFile(const std::string& path);

// Writes contiguous tensors of `dtype`, one after the other, of any device: at most one is copied to host memory at a
// time. What is one tensor under two names (a tied embedding) is stored once and shared in PyTorch, too. On disk when
// it returns, but not atomic: write beside the target and rename.
absl::Status WriteTorchFile(const std::string& path, const NamedTensors& tensors, at::ScalarType dtype);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_TORCH_FILE_H_
