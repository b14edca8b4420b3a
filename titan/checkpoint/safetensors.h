// The safetensors format: 8 bytes of header length (little endian), a JSON header, then raw tensors. Files are mapped
// into memory and never copied; a header that lies (truncated, overlapping, out of bounds, wrong sizes, duplicate
// names) is an error that says where, never a crash. No LibTorch here; tensors.h turns entries into at::Tensor.
//
//   absl::StatusOr<std::shared_ptr<const SafetensorsFile>> file = SafetensorsFile::Open("model.safetensors");
//   const SafetensorsFile::Entry* entry = (*file)->Find("lm_head.weight");
//
// Format: https://github.com/huggingface/safetensors#format. As there, tensors lie back to back: no gaps, no overlaps.

#ifndef TITAN_CHECKPOINT_SAFETENSORS_H_
#define TITAN_CHECKPOINT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "titan/base/file.h"

namespace titan {

// Dtypes by their names in the header: F64, F32, F16, BF16, I64, I32, U16, U8, BOOL, F8_E4M3, F8_E5M2, ...
enum class StoredDtype {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool
};

size_t SizeOf(StoredDtype dtype);       // bytes
const char* NameOf(StoredDtype dtype);  // "BF16"
std::optional<StoredDtype> StoredDtypeByName(std::string_view name);

// What the header says of one tensor.
struct TensorHeader {
  std::string name;
  StoredDtype dtype = StoredDtype::kF32;
  std::vector<int64_t> shape;
};

// Bytes of a tensor; nullopt if they do not fit into 63 bits or a size is negative. Sizes beside a 0 must fit as well:
// strides, and products of some of the sizes, are computed from them.
std::optional<int64_t> NumBytes(StoredDtype dtype, absl::Span<const int64_t> shape);

class SafetensorsFile {
 public:
  struct Entry {
    std::string name;
    StoredDtype dtype = StoredDtype::kF32;
    std::vector<int64_t> shape;
    absl::Span<const std::byte> data;  // inside the mapping, alive as long as the file; any alignment
  };

  // InvalidArgument / DataLoss with the path and the reason; NotFound if there is no such file. The file must not be
  // cut short by anyone while it is open: the kernel ends a process that reads beyond the end of a mapping (SIGBUS).
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(const std::string& path);

  virtual ~SafetensorsFile() = default;

  virtual const std::string& path() const = 0;
  virtual const std::vector<Entry>& entries() const = 0;  // in the order of their data
  virtual const Entry* Find(const std::string& name) const = 0;
  virtual const std::map<std::string, std::string>& metadata() const = 0;  // "__metadata__"
  // All bytes before the first tensor's, for checksums.
  virtual absl::Span<const std::byte> header() const = 0;
};

// Writes a file, one tensor after the other, so that only one of them needs to be in (host) memory. Its bytes depend on
// the arguments alone. The first tensor starts at a multiple of 64 bytes. Not atomic: write beside the target and
// rename, or commit otherwise.
//
//   TITAN_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, {{"a", StoredDtype::kF32, {2}}}));
//   TITAN_RETURN_IF_ERROR(writer.Append(eight_bytes));
//   TITAN_RETURN_IF_ERROR(writer.Close());
class SafetensorsWriter {
 public:
  // InvalidArgument for duplicate or ill-formed names and impossible shapes.
  static absl::StatusOr<SafetensorsWriter> Create(const std::string& path, absl::Span<const TensorHeader> tensors,
                                                  const std::map<std::string, std::string>& metadata = {});

  // The data of the next tensor, in the order of `tensors`; its size must be the one that dtype and shape give.
  absl::Status Append(absl::Span<const std::byte> data);

  // All tensors must be there. The file's data is on disk (fsync) when it returns.
  absl::Status Close();

  // All bytes before the first tensor's, for checksums.
  const std::string& header() const { return header_; }
  // Bytes of the whole file.
  int64_t file_bytes() const { return file_bytes_; }

 private:
  SafetensorsWriter(FileWriter file, std::string path, std::string header, std::vector<int64_t> sizes);

  FileWriter file_;
  std::string path_;
  std::string header_;
  std::vector<int64_t> sizes_;  // bytes of each tensor
  size_t next_ = 0;             // into sizes_
  int64_t file_bytes_ = 0;
};

// All at once, from entries that are in memory. Errors as SafetensorsWriter.
absl::Status WriteSafetensors(const std::string& path, absl::Span<const SafetensorsFile::Entry> entries,
                              const std::map<std::string, std::string>& metadata = {});

}  // namespace titan

#endif  // TITAN_CHECKPOINT_SAFETENSORS_H_
