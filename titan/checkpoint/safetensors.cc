#include "titan/checkpoint/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/status_macros.h"
#include "titan/base/with_context.h"
#include "titan/checkpoint/json.h"

namespace titan {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kDataAlignment = 64;
// Limit of the reference implementation.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr char kMetadataKey[] = "__metadata__";

struct DtypeInfo {
  StoredDtype dtype;
  const char* name;
  size_t size;
};

constexpr DtypeInfo kDtypes[] = {
    {StoredDtype::kF64, "F64", 8},   {StoredDtype::kF32, "F32", 4},        {StoredDtype::kF16, "F16", 2},
    {StoredDtype::kBF16, "BF16", 2}, {StoredDtype::kF8E4M3, "F8_E4M3", 1}, {StoredDtype::kF8E5M2, "F8_E5M2", 1},
    {StoredDtype::kI64, "I64", 8},   {StoredDtype::kI32, "I32", 4},        {StoredDtype::kI16, "I16", 2},
    {StoredDtype::kI8, "I8", 1},     {StoredDtype::kU64, "U64", 8},        {StoredDtype::kU32, "U32", 4},
    {StoredDtype::kU16, "U16", 2},   {StoredDtype::kU8, "U8", 1},          {StoredDtype::kBool, "BOOL", 1},
};

const DtypeInfo& InfoOf(StoredDtype dtype) { return kDtypes[static_cast<size_t>(dtype)]; }

// A tensor and where its data lies, relative to the end of the header.
struct PlacedTensor {
  TensorHeader tensor;
  int64_t begin = 0;
  int64_t end = 0;
};

struct Header {
  std::vector<PlacedTensor> tensors;  // in the order of their data
  std::map<std::string, std::string> metadata;
};

absl::Status TensorError(const std::string& name, std::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\": ", reason));
}

absl::StatusOr<PlacedTensor> ParseTensor(const std::string& name, const nlohmann::json& value) {
  if (!value.is_object()) return TensorError(name, "its description is not an object");
  for (const auto& [key, unused] : value.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      return TensorError(name, absl::StrCat("unknown key \"", key, "\""));
    }
  }
  PlacedTensor placed;
  placed.tensor.name = name;
  const auto dtype = value.find("dtype");
  if (dtype == value.end() || !dtype->is_string()) return TensorError(name, "dtype is missing or not a string");
  const std::optional<StoredDtype> known = StoredDtypeByName(dtype->get<std::string>());
  if (!known) return TensorError(name, absl::StrCat("unknown dtype \"", dtype->get<std::string>(), "\""));
  placed.tensor.dtype = *known;

  const auto shape = value.find("shape");
  if (shape == value.end()) return TensorError(name, "shape is missing");
  absl::StatusOr<std::vector<int64_t>> sizes = ParseSizes(*shape);
  if (!sizes.ok()) return TensorError(name, absl::StrCat("shape: ", sizes.status().message()));
  placed.tensor.shape = *std::move(sizes);

  const auto offsets = value.find("data_offsets");
  if (offsets == value.end()) return TensorError(name, "data_offsets is missing");
  const absl::StatusOr<std::vector<int64_t>> range = ParseSizes(*offsets);
  if (!range.ok()) return TensorError(name, absl::StrCat("data_offsets: ", range.status().message()));
  if (range->size() != 2) return TensorError(name, "data_offsets has not two elements");
  placed.begin = range->front();
  placed.end = range->back();

  const std::optional<int64_t> bytes = NumBytes(placed.tensor.dtype, placed.tensor.shape);
  if (!bytes) return TensorError(name, "its shape is too large");
  // Not `end - begin`: both come from the file, but neither is negative, so this cannot overflow either.
  if (placed.end < placed.begin || placed.end - placed.begin != *bytes) {
    return TensorError(name, absl::StrCat("data_offsets [", placed.begin, ", ", placed.end, "] do not span the ",
                                          *bytes, " bytes of its dtype and shape"));
  }
  return placed;
}

// Checks all that can be checked without the data. `data_bytes` is what follows the header in the file.
absl::StatusOr<Header> ParseHeader(std::string_view text, int64_t data_bytes) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJsonObject(text));
  Header header;
  for (const auto& [name, value] : json.items()) {
    if (name != kMetadataKey) {
      TITAN_ASSIGN_OR_RETURN(PlacedTensor placed, ParseTensor(name, value));
      header.tensors.push_back(std::move(placed));
      continue;
    }
    if (!value.is_object()) return absl::InvalidArgumentError("__metadata__ is not an object");
    for (const auto& [key, text_value] : value.items()) {
      if (!text_value.is_string()) {
        return absl::InvalidArgumentError(absl::StrCat("__metadata__: \"", key, "\" is not a string"));
      }
      header.metadata[key] = text_value.get<std::string>();
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(), [](const PlacedTensor& a, const PlacedTensor& b) {
    return std::make_pair(a.begin, a.end) < std::make_pair(b.begin, b.end);
  });
  int64_t end = 0;
  for (const PlacedTensor& placed : header.tensors) {
    if (placed.begin < end) return TensorError(placed.tensor.name, "its data overlaps another tensor's");
    if (placed.begin > end) {
      return TensorError(placed.tensor.name,
                         absl::StrCat(placed.begin - end, " bytes before its data are no tensor's"));
    }
    end = placed.end;
  }
  if (end > data_bytes) {
    return absl::DataLossError(absl::StrCat("its tensors have ", end, " bytes, but ", data_bytes,
                                            " follow the header; the file is cut off, fetch it again"));
  }
  if (end < data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(data_bytes - end, " bytes after the last tensor are no tensor's"));
  }
  return header;
}

class MappedFile : public SafetensorsFile {
 public:
  MappedFile(std::string path, void* mapping, int64_t bytes)
      : path_(std::move(path)), mapping_(mapping), bytes_(bytes) {}
  ~MappedFile() override { munmap(mapping_, bytes_); }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  absl::Status Parse() {
    const auto* start = static_cast<const std::byte*>(mapping_);
    uint64_t length = 0;
    for (int i = kLengthBytes; i-- > 0;) length = length << 8 | std::to_integer<uint64_t>(start[i]);
    if (length > kMaxHeaderBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("its first 8 bytes give a header of ", length, " bytes; this is no safetensors file"));
    }
    const int64_t data_start = kLengthBytes + static_cast<int64_t>(length);
    if (data_start > bytes_) {
      return absl::DataLossError(absl::StrCat("the header has ", length, " bytes, but only ", bytes_ - kLengthBytes,
                                              " follow; the file is cut off, fetch it again"));
    }
    header_bytes_ = absl::MakeConstSpan(start, data_start);
    const std::string_view text(reinterpret_cast<const char*>(start) + kLengthBytes, length);
    TITAN_ASSIGN_OR_RETURN(Header header, ParseHeader(text, bytes_ - data_start));
    metadata_ = std::move(header.metadata);
    for (PlacedTensor& placed : header.tensors) {
      TensorHeader& tensor = placed.tensor;
      by_name_.emplace(tensor.name, entries_.size());
      entries_.push_back({std::move(tensor.name), tensor.dtype, std::move(tensor.shape),
                          absl::MakeConstSpan(start + data_start + placed.begin, placed.end - placed.begin)});
    }
    return absl::OkStatus();
  }

  const std::string& path() const override { return path_; }
  const std::vector<Entry>& entries() const override { return entries_; }
  const Entry* Find(const std::string& name) const override {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &entries_[found->second];
  }
  const std::map<std::string, std::string>& metadata() const override { return metadata_; }
  absl::Span<const std::byte> header() const override { return header_bytes_; }

 private:
  std::string path_;
  void* mapping_;
  int64_t bytes_;
  absl::Span<const std::byte> header_bytes_;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

absl::StatusOr<std::shared_ptr<MappedFile>> Map(const std::string& path) {
  // Without O_NONBLOCK a named pipe would wait for a writer.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return SystemError(errno, "cannot open", path);
  struct stat info;
  if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(descriptor);
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  if (info.st_size < kLengthBytes) {
    close(descriptor);
    return absl::DataLossError(absl::StrCat(path, ": ", info.st_size, " bytes are too few for a safetensors file"));
  }
  void* mapping = mmap(nullptr, info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int error = errno;
  close(descriptor);
  if (mapping == MAP_FAILED) return SystemError(error, "cannot map", path);
  return std::make_shared<MappedFile>(path, mapping, info.st_size);
}

}  // namespace

size_t SizeOf(StoredDtype dtype) { return InfoOf(dtype).size; }

const char* NameOf(StoredDtype dtype) { return InfoOf(dtype).name; }

std::optional<StoredDtype> StoredDtypeByName(std::string_view name) {
  for (const DtypeInfo& info : kDtypes) {
    if (name == info.name) return info.dtype;
  }
  return std::nullopt;
}

std::optional<int64_t> NumBytes(StoredDtype dtype, absl::Span<const int64_t> shape) {
  int64_t bytes = static_cast<int64_t>(SizeOf(dtype));
  bool is_empty = false;
  for (const int64_t size : shape) {
    is_empty |= size == 0;
    if (size < 0 || (size > 0 && __builtin_mul_overflow(bytes, size, &bytes))) return std::nullopt;
  }
  return is_empty ? 0 : bytes;
}

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<MappedFile> file, Map(path));
  if (const absl::Status status = file->Parse(); !status.ok()) return WithContext(path, status);
  return file;
}

SafetensorsWriter::SafetensorsWriter(FileWriter file, std::string path, std::string header, std::vector<int64_t> sizes)
    : file_(std::move(file)), path_(std::move(path)), header_(std::move(header)), sizes_(std::move(sizes)) {
  file_bytes_ = static_cast<int64_t>(header_.size());
  for (const int64_t size : sizes_) file_bytes_ += size;
}

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(const std::string& path,
                                                            absl::Span<const TensorHeader> tensors,
                                                            const std::map<std::string, std::string>& metadata) {
  // Built by hand because its order is the tensors' order, and a key that appears twice must reach the check below.
  std::string text = "{";
  const auto quoted = [](const std::string& name) {
    return nlohmann::json(name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  if (!metadata.empty()) {
    std::string separator;
    absl::StrAppend(&text, "\"", kMetadataKey, "\":{");
    for (const auto& [key, value] : metadata) {
      absl::StrAppend(&text, separator, quoted(key), ":", quoted(value));
      separator = ",";
    }
    text += tensors.empty() ? "}" : "},";
  }
  std::vector<int64_t> sizes;
  int64_t begin = 0;
  for (const TensorHeader& tensor : tensors) {
    const std::optional<int64_t> bytes = NumBytes(tensor.dtype, tensor.shape);
    int64_t end = 0;
    if (!bytes || __builtin_add_overflow(begin, *bytes, &end))
      return TensorError(tensor.name, "its shape is impossible");
    if (tensor.name == kMetadataKey) return TensorError(tensor.name, "this name is taken");
    absl::StrAppend(&text, sizes.empty() ? "" : ",", quoted(tensor.name), ":{\"dtype\":\"", NameOf(tensor.dtype),
                    "\",\"shape\":", nlohmann::json(tensor.shape).dump(), ",\"data_offsets\":[", begin, ",", end, "]}");
    sizes.push_back(*bytes);
    begin = end;
  }
  text += "}";
  text.append((kDataAlignment - (kLengthBytes + text.size()) % kDataAlignment) % kDataAlignment, ' ');

  // What the reader would refuse is not written.
  absl::StatusOr<Header> read =
      text.size() <= kMaxHeaderBytes ? ParseHeader(text, begin) : absl::InvalidArgumentError("too many tensors");
  if (!read.ok()) return WithContext(path, read.status());
  std::set<std::string> readable;
  for (const PlacedTensor& placed : read->tensors) readable.insert(placed.tensor.name);
  for (const TensorHeader& tensor : tensors) {
    if (readable.count(tensor.name) == 0) return TensorError(tensor.name, "its name is not UTF-8");
  }

  std::string header;
  for (int i = 0; i < kLengthBytes; ++i) header.push_back(static_cast<char>(text.size() >> (8 * i)));
  header += text;
  TITAN_ASSIGN_OR_RETURN(FileWriter file, FileWriter::Create(path));
  TITAN_RETURN_IF_ERROR(file.Append(header));
  return SafetensorsWriter(std::move(file), path, std::move(header), std::move(sizes));
}

absl::Status SafetensorsWriter::Append(absl::Span<const std::byte> data) {
  if (next_ == sizes_.size()) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": data for more tensors than were declared"));
  }
  if (static_cast<int64_t>(data.size()) != sizes_[next_]) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": ", data.size(), " bytes for tensor ", next_,
                                                   ", whose dtype and shape need ", sizes_[next_]));
  }
  ++next_;
  return file_.Append(std::string_view(reinterpret_cast<const char*>(data.data()), data.size()));
}

absl::Status SafetensorsWriter::Close() {
  if (next_ != sizes_.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": closed after ", next_, " of ", sizes_.size(), " tensors"));
  }
  return file_.Close();
}

absl::Status WriteSafetensors(const std::string& path, absl::Span<const SafetensorsFile::Entry> entries,
                              const std::map<std::string, std::string>& metadata) {
  std::vector<TensorHeader> tensors;
  for (const SafetensorsFile::Entry& entry : entries) tensors.push_back({entry.name, entry.dtype, entry.shape});
  TITAN_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, tensors, metadata));
  for (const SafetensorsFile::Entry& entry : entries) TITAN_RETURN_IF_ERROR(writer.Append(entry.data));
  return writer.Close();
}

}  // namespace titan
