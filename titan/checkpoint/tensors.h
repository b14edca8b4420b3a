// Tensors of LibTorch in safetensors files.
//
//   TITAN_RETURN_IF_ERROR(WriteTensors("out.safetensors", {{"logits", logits}, {"loss", loss}}));
//   TITAN_ASSIGN_OR_RETURN(const NamedTensors inputs, ReadTensors("in.safetensors"));

#ifndef TITAN_CHECKPOINT_TENSORS_H_
#define TITAN_CHECKPOINT_TENSORS_H_

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "titan/checkpoint/safetensors.h"

namespace titan {

// In an order that matters to files.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// The tensor called `name`, or nullptr.
const at::Tensor* FindTensor(const NamedTensors& tensors, const std::string& name);

at::ScalarType ScalarTypeOf(StoredDtype dtype);
// InvalidArgument for types that safetensors cannot hold (complex, quantized, ...).
absl::StatusOr<StoredDtype> StoredDtypeOf(at::ScalarType type);

// A CPU tensor on the bytes of the mapping, without a copy where their alignment allows it; it keeps the file open.
// The memory is read-only: writing in place ends the process. `entry` belongs to `file`.
at::Tensor ViewOf(const std::shared_ptr<const SafetensorsFile>& file, const SafetensorsFile::Entry& entry);

// The bytes of a contiguous CPU tensor.
absl::Span<const std::byte> BytesOf(const at::Tensor& tensor);

// Writes tensors of any device and layout, one after the other: at most one is copied to host memory at a time. On disk
// when it returns, but not atomic; see WriteSafetensors.
absl::Status WriteTensors(const std::string& path, const NamedTensors& tensors,
                          const std::map<std::string, std::string>& metadata = {});

// All tensors of a file, in memory of their own.
absl::StatusOr<NamedTensors> ReadTensors(const std::string& path);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_TENSORS_H_
