// The safetensors format: 8 bytes of header length (little endian), a JSON header, then raw tensors. Files are mapped
// into memory and never copied; a header that lies (truncated, overlapping, out of bounds, wrong sizes, duplicate names)
// is an error that says where, never a crash. No LibTorch here; tensors.h turns entries into at::Tensor.
//
//   absl::StatusOr<std::shared_ptr<SafetensorsFile>> file = SafetensorsFile::Open("model.safetensors");
//   const SafetensorsFile::Entry* entry = (*file)->Find("lm_head.weight");

#ifndef TITAN_CHECKPOINT_SAFETENSORS_H_
#define TITAN_CHECKPOINT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace titan {

// Dtypes by their names in the header: F64, F32, F16, BF16, I64, I32, U16, U8, BOOL, F8_E4M3, F8_E5M2, ...
enum class StoredDtype { kF64, kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kI64, kI32, kI16, kI8, kU64, kU32, kU16, kU8, kBool };

size_t SizeOf(StoredDtype dtype);         // bytes
const char* NameOf(StoredDtype dtype);    // "BF16"

class SafetensorsFile {
 public:
  struct Entry {
    std::string name;
    StoredDtype dtype;
    std::vector<int64_t> shape;
    absl::Span<const std::byte> data;  // inside the mapping, alive as long as the file
  };

  // InvalidArgument / DataLoss with the path and the reason; NotFound if there is no such file.
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(const std::string& path);

  virtual ~SafetensorsFile() = default;

  virtual const std::string& path() const = 0;
  virtual const std::vector<Entry>& entries() const = 0;  // in the order of their data
  virtual const Entry* Find(const std::string& name) const = 0;
  virtual const std::map<std::string, std::string>& metadata() const = 0;  // "__metadata__"
};

// Writes a file whose bytes depend on the arguments alone: entries in the given order, data aligned to 64 bytes.
// `data` sizes must match dtype and shape. Not atomic: write beside the target and rename, or commit otherwise.
// The file's data is on disk (fsync) when it returns.
absl::Status WriteSafetensors(const std::string& path, absl::Span<const SafetensorsFile::Entry> entries,
                              const std::map<std::string, std::string>& metadata = {});

}  // namespace titan

#endif  // TITAN_CHECKPOINT_SAFETENSORS_H_
