#include "titan/checkpoint/tensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cstdint>
#include <cstring>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

struct DtypePair {
  StoredDtype stored;
  at::ScalarType type;
};

constexpr DtypePair kDtypes[] = {
    {StoredDtype::kF64, at::kDouble},
    {StoredDtype::kF32, at::kFloat},
    {StoredDtype::kF16, at::kHalf},
    {StoredDtype::kBF16, at::kBFloat16},
    {StoredDtype::kF8E4M3, at::kFloat8_e4m3fn},
    {StoredDtype::kF8E5M2, at::kFloat8_e5m2},
    {StoredDtype::kI64, at::kLong},
    {StoredDtype::kI32, at::kInt},
    {StoredDtype::kI16, at::kShort},
    {StoredDtype::kI8, at::kChar},
    {StoredDtype::kU64, at::kUInt64},
    {StoredDtype::kU32, at::kUInt32},
    {StoredDtype::kU16, at::kUInt16},
    {StoredDtype::kU8, at::kByte},
    {StoredDtype::kBool, at::kBool},
};

}  // namespace

const at::Tensor* FindTensor(const NamedTensors& tensors, const std::string& name) {
  for (const auto& [tensor_name, tensor] : tensors) {
    if (tensor_name == name) return &tensor;
  }
  return nullptr;
}

at::ScalarType ScalarTypeOf(StoredDtype dtype) {
  for (const DtypePair& pair : kDtypes) {
    if (pair.stored == dtype) return pair.type;
  }
  LOG(FATAL) << "no LibTorch type for " << NameOf(dtype);
}

absl::StatusOr<StoredDtype> StoredDtypeOf(at::ScalarType type) {
  for (const DtypePair& pair : kDtypes) {
    if (pair.type == type) return pair.stored;
  }
  return absl::InvalidArgumentError(absl::StrCat("safetensors cannot hold ", c10::toString(type)));
}

at::Tensor ViewOf(const std::shared_ptr<const SafetensorsFile>& file, const SafetensorsFile::Entry& entry) {
  const auto options = at::TensorOptions().dtype(ScalarTypeOf(entry.dtype));
  const bool aligned = reinterpret_cast<uintptr_t>(entry.data.data()) % SizeOf(entry.dtype) == 0;
  if (entry.data.empty() || !aligned) {
    at::Tensor copy = at::empty(entry.shape, options);
    if (!entry.data.empty()) std::memcpy(copy.data_ptr(), entry.data.data(), entry.data.size());
    return copy;
  }
  // from_blob wants a pointer to what may change; nobody may change this (see the header).
  void* data = const_cast<std::byte*>(entry.data.data());
  return at::from_blob(data, entry.shape, [file](void*) {}, options);
}

absl::Span<const std::byte> BytesOf(const at::Tensor& tensor) {
  CHECK(tensor.is_contiguous() && tensor.device().is_cpu());
  return absl::MakeConstSpan(static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes());
}

absl::Status WriteTensors(const std::string& path, const NamedTensors& tensors,
                          const std::map<std::string, std::string>& metadata) {
  std::vector<TensorHeader> headers;
  for (const auto& [name, tensor] : tensors) {
    TITAN_ASSIGN_OR_RETURN(const StoredDtype dtype, StoredDtypeOf(tensor.scalar_type()));
    headers.push_back({name, dtype, tensor.sizes().vec()});
  }
  TITAN_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, headers, metadata));
  for (const auto& [name, tensor] : tensors) TITAN_RETURN_IF_ERROR(writer.Append(BytesOf(tensor.cpu().contiguous())));
  return writer.Close();
}

absl::StatusOr<NamedTensors> ReadTensors(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const SafetensorsFile> file, SafetensorsFile::Open(path));
  NamedTensors tensors;
  for (const SafetensorsFile::Entry& entry : file->entries()) {
    tensors.emplace_back(entry.name, ViewOf(file, entry).clone());
  }
  return tensors;
}

}  // namespace titan
