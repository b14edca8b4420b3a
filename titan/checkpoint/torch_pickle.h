// What torch.save writes into data.pkl of a state dict: which tensors there are, and where in which storage each lies.
// Nothing of it is executed. It is read as a list of instructions, of which those are known that a dict of tensors
// needs (pickle protocol 2; torch._utils._rebuild_tensor_v2 and _rebuild_parameter, the storages of torch,
// OrderedDict); any other instruction or name is an error that says which. No LibTorch here.
//
//   TITAN_ASSIGN_OR_RETURN(const std::vector<PickledTensor> tensors, ParseStatePickle(bytes));
//   const std::string bytes = FormatStatePickle(tensors);
//
// Format: Lib/pickletools.py of CPython.

#ifndef TITAN_CHECKPOINT_TORCH_PICKLE_H_
#define TITAN_CHECKPOINT_TORCH_PICKLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/checkpoint/safetensors.h"

namespace titan {

// A view of a storage: its element (i, j, ...) is element offset + i * strides[0] + j * strides[1] + ... of that. In
// elements, not bytes.
struct PickledTensor {
  std::string name;
  std::string storage;  // entry "data/<storage>" of the archive
  StoredDtype dtype = StoredDtype::kF32;
  int64_t storage_elements = 0;
  int64_t offset = 0;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
};

// The tensors of a dict, in its order. InvalidArgument names the instruction and its position, or the tensor that does
// not lie inside its storage; so for a dict that holds anything but tensors.
absl::StatusOr<std::vector<PickledTensor>> ParseStatePickle(std::string_view pickle);

// The other way; torch.load(weights_only=True) reads it. InvalidArgument for a dtype that has no storage in torch.
absl::StatusOr<std::string> FormatStatePickle(const std::vector<PickledTensor>& tensors);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_TORCH_PICKLE_H_
