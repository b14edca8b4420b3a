#include "titan/checkpoint/torch_file.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "caffe2/serialize/inline_container.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/torch_pickle.h"
#include "titan/checkpoint/torch_zip.h"

namespace titan {
namespace {

constexpr char kPickle[] = "data.pkl";
constexpr char kByteOrder[] = "byteorder";
constexpr char kLittle[] = "little";
constexpr char kScriptConstants[] = "constants.pkl";

std::string StorageEntry(const std::string& key) { return absl::StrCat("data/", key); }

// The bytes of the storages, by their keys, each checked when the first tensor of it is asked for.
class Storages {
 public:
  explicit Storages(std::shared_ptr<const TorchZip> zip) : zip_(std::move(zip)) {}

  absl::StatusOr<at::Tensor> View(const PickledTensor& tensor) {
    TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const char> bytes, BytesOf(tensor));
    const auto options = at::TensorOptions().dtype(ScalarTypeOf(tensor.dtype));
    for (const int64_t size : tensor.sizes) {
      if (size == 0) return at::empty(tensor.sizes, options);
    }
    // from_blob wants a pointer to what may change; nobody may change this (see the header).
    const char* start = bytes.get() + tensor.offset * static_cast<int64_t>(SizeOf(tensor.dtype));
    return at::from_blob(const_cast<char*>(start), tensor.sizes, tensor.strides, [bytes](void*) {}, options);
  }

 private:
  absl::StatusOr<std::shared_ptr<const char>> BytesOf(const PickledTensor& tensor) {
    std::shared_ptr<const char>& known = storages_[tensor.storage];
    if (known != nullptr) return known;
    const std::string entry = StorageEntry(tensor.storage);
    TITAN_ASSIGN_OR_RETURN(const std::string_view content, zip_->Read(entry));
    const int64_t bytes = NumBytes(tensor.dtype, {tensor.storage_elements}).value();
    if (static_cast<int64_t>(content.size()) != bytes) {
      return absl::InvalidArgumentError(absl::StrCat(zip_->path(), ": tensor \"", tensor.name, "\": entry ", entry,
                                                     " has ", content.size(), " bytes, but its storage has ", bytes));
    }
    if (reinterpret_cast<uintptr_t>(content.data()) % SizeOf(tensor.dtype) == 0) {
      known = std::shared_ptr<const char>(zip_, content.data());
      return known;
    }
    // operator new aligns for any dtype.
    std::shared_ptr<char> copy(static_cast<char*>(operator new(content.size())), [](char* p) { operator delete(p); });
    std::memcpy(copy.get(), content.data(), content.size());
    known = std::move(copy);
    return known;
  }

  const std::shared_ptr<const TorchZip> zip_;
  std::map<std::string, std::shared_ptr<const char>> storages_;
};

absl::Status CheckKind(const TorchZip& zip) {
  if (zip.Has(kScriptConstants)) {
    return absl::InvalidArgumentError(
        absl::StrCat(zip.path(), ": is a program of TorchScript; save the state dict of its module with torch.save"));
  }
  if (!zip.Has(kPickle)) {
    return absl::InvalidArgumentError(absl::StrCat(zip.path(), ": has no data.pkl, so torch.save has not written it"));
  }
  if (!zip.Has(kByteOrder)) return absl::OkStatus();  // before torch 2.1
  TITAN_ASSIGN_OR_RETURN(const std::string_view order, zip.Read(kByteOrder));
  if (order == kLittle) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(zip.path(), ": was written by a big-endian machine"));
}

// A storage for each tensor, but one for those that are the same.
std::vector<PickledTensor> Describe(const NamedTensors& tensors, StoredDtype dtype) {
  std::map<const void*, std::string> keys;
  std::vector<PickledTensor> described;
  for (const auto& [name, tensor] : tensors) {
    const auto key = keys.emplace(tensor.unsafeGetTensorImpl(), absl::StrCat(keys.size())).first;
    PickledTensor& entry = described.emplace_back();
    entry.name = name;
    entry.storage = key->second;
    entry.dtype = dtype;
    entry.storage_elements = tensor.numel();
    entry.sizes = tensor.sizes().vec();
    entry.strides.resize(entry.sizes.size());
    int64_t stride = 1;
    for (size_t d = entry.sizes.size(); d-- > 0; stride *= entry.sizes[d]) entry.strides[d] = stride;
  }
  return described;
}

}  // namespace

absl::StatusOr<NamedTensors> ReadTorchFile(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const TorchZip> zip, TorchZip::Open(path));
  TITAN_RETURN_IF_ERROR(CheckKind(*zip));
  TITAN_ASSIGN_OR_RETURN(const std::string_view pickle, zip->Read(kPickle));
  const absl::StatusOr<std::vector<PickledTensor>> described = ParseStatePickle(pickle);
  if (!described.ok()) {
    return absl::Status(described.status().code(), absl::StrCat(path, ": ", described.status().message()));
  }
  Storages storages(zip);
  NamedTensors tensors;
  for (const PickledTensor& tensor : *described) {
    TITAN_ASSIGN_OR_RETURN(at::Tensor view, storages.View(tensor));
    tensors.emplace_back(tensor.name, std::move(view));
  }
  return tensors;
}

absl::Status WriteTorchFile(const std::string& path, const NamedTensors& tensors, at::ScalarType dtype) {
  TITAN_ASSIGN_OR_RETURN(const StoredDtype stored, StoredDtypeOf(dtype));
  const std::vector<PickledTensor> described = Describe(tensors, stored);
  TITAN_ASSIGN_OR_RETURN(const std::string pickle, FormatStatePickle(described));
  TITAN_ASSIGN_OR_RETURN(FileWriter file, FileWriter::Create(path));
  absl::Status status;
  {
    // The writer that torch.save has. It ends the program when it fails in its destructor, and so is not told of
    // errors.
    caffe2::serialize::PyTorchStreamWriter writer([&](const void* data, size_t bytes) {
      if (status.ok()) status = file.Append({static_cast<const char*>(data), bytes});
      return bytes;
    });
    writer.writeRecord(kPickle, pickle.data(), pickle.size());
    writer.writeRecord(kByteOrder, kLittle, sizeof(kLittle) - 1);
    for (size_t i = 0; i < tensors.size() && status.ok(); ++i) {
      const std::string entry = StorageEntry(described[i].storage);
      if (writer.getAllWrittenRecords().count(entry) > 0) continue;
      const at::Tensor host = tensors[i].second.to(dtype).cpu().contiguous();
      writer.writeRecord(entry, host.const_data_ptr(), host.nbytes());
    }
    writer.writeEndOfFile();
  }
  TITAN_RETURN_IF_ERROR(status);
  return file.Close();
}

}  // namespace titan
