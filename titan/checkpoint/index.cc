#include "titan/checkpoint/index.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "titan/base/crc32c.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/json.h"

namespace titan {
namespace {

constexpr char kFormat[] = "titan_checkpoint";
constexpr int64_t kVersion = 1;
constexpr char kCommittedFirstLine[] = "titan checkpoint 1";

std::string CrcText(uint32_t crc) { return absl::StrFormat("%08x", crc); }

std::optional<uint32_t> ParseCrc(std::string_view text) {
  uint32_t crc = 0;
  // Compared with its own print, so that each value has one form.
  if (!absl::SimpleHexAtoi(text, &crc) || CrcText(crc) != text) return std::nullopt;
  return crc;
}

// A name in the checkpoint's own folder.
bool IsFileName(std::string_view name) {
  return !name.empty() && name[0] != '.' && name.find_first_of(std::string_view("/\n \0", 4)) == std::string_view::npos;
}

// Members of objects, with an error that names the path of the one that is missing or of the wrong type.
absl::StatusOr<nlohmann::json> Member(const nlohmann::json& object, const char* key, const std::string& path) {
  if (!object.is_object()) return absl::InvalidArgumentError(absl::StrCat(path, ": not an object"));
  const auto found = object.find(key);
  if (found == object.end()) return absl::InvalidArgumentError(absl::StrCat(path, ": \"", key, "\" is missing"));
  return *found;
}

absl::StatusOr<std::string> String(const nlohmann::json& object, const char* key, const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json value, Member(object, key, path));
  if (!value.is_string()) return absl::InvalidArgumentError(absl::StrCat(path, ".", key, ": not a string"));
  return value.get<std::string>();
}

absl::StatusOr<int64_t> Integer(const nlohmann::json& object, const char* key, const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json value, Member(object, key, path));
  const absl::StatusOr<std::vector<int64_t>> sizes = ParseSizes(nlohmann::json::array({value}));
  if (!sizes.ok()) return absl::InvalidArgumentError(absl::StrCat(path, ".", key, ": not an integer from 0 on"));
  return sizes->front();
}

absl::StatusOr<std::vector<int64_t>> Sizes(const nlohmann::json& object, const char* key, const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json value, Member(object, key, path));
  absl::StatusOr<std::vector<int64_t>> sizes = ParseSizes(value);
  if (!sizes.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ".", key, ": ", sizes.status().message()));
  }
  return sizes;
}

absl::StatusOr<uint32_t> Crc(const nlohmann::json& object, const char* key, const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, String(object, key, path));
  const std::optional<uint32_t> crc = ParseCrc(text);
  if (!crc) return absl::InvalidArgumentError(absl::StrCat(path, ".", key, ": not 8 hexadecimal digits"));
  return *crc;
}

bool Overlap(const CheckpointIndex::Piece& a, const CheckpointIndex::Piece& b) {
  for (size_t d = 0; d < a.shape.size(); ++d) {
    if (a.offsets[d] + a.shape[d] <= b.offsets[d] || b.offsets[d] + b.shape[d] <= a.offsets[d]) return false;
  }
  return true;
}

// Every piece lies inside, none overlaps another, and together they have as many bytes as the tensor: so they cover it.
absl::Status CheckCover(const CheckpointIndex::Tensor& tensor, const std::string& path) {
  const std::optional<int64_t> bytes = NumBytes(tensor.dtype, tensor.shape);
  if (!bytes) return absl::InvalidArgumentError(absl::StrCat(path, ": its shape is too large"));
  int64_t covered = 0;
  for (size_t i = 0; i < tensor.pieces.size(); ++i) {
    const CheckpointIndex::Piece& piece = tensor.pieces[i];
    const std::string place = absl::StrCat(path, ".pieces[", i, "]");
    if (piece.offsets.size() != tensor.shape.size() || piece.shape.size() != tensor.shape.size()) {
      return absl::InvalidArgumentError(absl::StrCat(place, ": another number of dimensions than the tensor"));
    }
    for (size_t d = 0; d < tensor.shape.size(); ++d) {
      if (piece.shape[d] > tensor.shape[d] || piece.offsets[d] > tensor.shape[d] - piece.shape[d]) {
        return absl::InvalidArgumentError(absl::StrCat(place, ": outside the tensor"));
      }
    }
    covered += NumBytes(tensor.dtype, piece.shape).value();  // at most that of the tensor, and checked in each round
    for (size_t j = 0; j < i; ++j) {
      if (Overlap(piece, tensor.pieces[j])) {
        return absl::InvalidArgumentError(absl::StrCat(place, ": overlaps pieces[", j, "]"));
      }
    }
    if (covered > *bytes) break;
  }
  if (covered != *bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": its pieces have ", covered, " bytes, the tensor has ", *bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointIndex::Piece> ParsePiece(const nlohmann::json& value, const std::string& path) {
  CheckpointIndex::Piece piece;
  TITAN_ASSIGN_OR_RETURN(piece.file, String(value, "file", path));
  TITAN_ASSIGN_OR_RETURN(piece.offsets, Sizes(value, "offsets", path));
  TITAN_ASSIGN_OR_RETURN(piece.shape, Sizes(value, "shape", path));
  TITAN_ASSIGN_OR_RETURN(piece.crc32c, Crc(value, "crc32c", path));
  return piece;
}

absl::StatusOr<CheckpointIndex::Tensor> ParseTensor(const nlohmann::json& value, const std::string& path,
                                                    const CheckpointIndex& index) {
  CheckpointIndex::Tensor tensor;
  TITAN_ASSIGN_OR_RETURN(const std::string dtype_name, String(value, "dtype", path));
  const std::optional<StoredDtype> dtype = StoredDtypeByName(dtype_name);
  if (!dtype) return absl::InvalidArgumentError(absl::StrCat(path, ": unknown dtype \"", dtype_name, "\""));
  tensor.dtype = *dtype;
  TITAN_ASSIGN_OR_RETURN(tensor.shape, Sizes(value, "shape", path));
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json pieces, Member(value, "pieces", path));
  if (!pieces.is_array()) return absl::InvalidArgumentError(absl::StrCat(path, ".pieces: not a list"));
  for (const nlohmann::json& piece_value : pieces) {
    const std::string piece_path = absl::StrCat(path, ".pieces[", tensor.pieces.size(), "]");
    TITAN_ASSIGN_OR_RETURN(CheckpointIndex::Piece piece, ParsePiece(piece_value, piece_path));
    if (index.shards.count(piece.file) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(piece_path, ": unknown file \"", piece.file, "\""));
    }
    const auto same_file = [&](const CheckpointIndex::Piece& other) { return other.file == piece.file; };
    if (std::any_of(tensor.pieces.begin(), tensor.pieces.end(), same_file)) {
      return absl::InvalidArgumentError(absl::StrCat(piece_path, ": a second piece in \"", piece.file, "\""));
    }
    tensor.pieces.push_back(std::move(piece));
  }
  TITAN_RETURN_IF_ERROR(CheckCover(tensor, path));
  return tensor;
}

}  // namespace

std::string FormatIndex(const CheckpointIndex& index) {
  // One line for each tensor: readable, and small beside the tensors.
  std::string text = absl::StrCat("{\n\"format\": \"", kFormat, "\",\n\"version\": ", kVersion,
                                  ",\n\"step\": ", index.step, ",\n\"files\": {");
  const char* separator = "\n";
  for (const auto& [file, shard] : index.shards) {
    const nlohmann::json value = {{"bytes", shard.bytes}, {"header_crc32c", CrcText(shard.header_crc32c)}};
    absl::StrAppend(&text, separator, nlohmann::json(file).dump(), ": ", value.dump());
    separator = ",\n";
  }
  text += "\n},\n\"tensors\": {";
  separator = "\n";
  for (const auto& [name, tensor] : index.tensors) {
    nlohmann::json pieces = nlohmann::json::array();
    for (const CheckpointIndex::Piece& piece : tensor.pieces) {
      pieces.push_back({{"file", piece.file},
                        {"offsets", piece.offsets},
                        {"shape", piece.shape},
                        {"crc32c", CrcText(piece.crc32c)}});
    }
    const nlohmann::json value = {{"dtype", NameOf(tensor.dtype)}, {"shape", tensor.shape}, {"pieces", pieces}};
    absl::StrAppend(&text, separator, nlohmann::json(name).dump(), ": ", value.dump());
    separator = ",\n";
  }
  text += "\n}\n}\n";
  return text;
}

absl::StatusOr<CheckpointIndex> ParseIndex(std::string_view json) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json object, ParseJsonObject(json));
  TITAN_ASSIGN_OR_RETURN(const std::string format, String(object, "format", "index"));
  TITAN_ASSIGN_OR_RETURN(const int64_t version, Integer(object, "version", "index"));
  if (format != kFormat || version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("format \"", format, "\" version ", version, "; this titan reads \"",
                                                   kFormat, "\" version ", kVersion));
  }
  CheckpointIndex index;
  TITAN_ASSIGN_OR_RETURN(index.step, Integer(object, "step", "index"));
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json files, Member(object, "files", "index"));
  for (const auto& [file, value] : files.items()) {
    const std::string path = absl::StrCat("files.", file);
    if (!IsFileName(file)) return absl::InvalidArgumentError(absl::StrCat(path, ": not a file name"));
    CheckpointIndex::Shard shard;
    TITAN_ASSIGN_OR_RETURN(shard.bytes, Integer(value, "bytes", path));
    TITAN_ASSIGN_OR_RETURN(shard.header_crc32c, Crc(value, "header_crc32c", path));
    index.shards[file] = shard;
  }
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json tensors, Member(object, "tensors", "index"));
  for (const auto& [name, value] : tensors.items()) {
    TITAN_ASSIGN_OR_RETURN(index.tensors[name], ParseTensor(value, absl::StrCat("tensors.", name), index));
  }
  return index;
}

std::string FormatCommitted(const CommittedFiles& files) {
  std::string text = absl::StrCat(kCommittedFirstLine, "\n");
  for (const auto& [name, file] : files) absl::StrAppend(&text, CrcText(file.crc32c), " ", file.bytes, " ", name, "\n");
  absl::StrAppend(&text, CrcText(Crc32c(text)), "\n");
  return text;
}

absl::StatusOr<CommittedFiles> ParseCommitted(std::string_view text) {
  CommittedFiles files;
  const std::vector<std::string_view> lines = absl::StrSplit(text, '\n');
  if (lines.front() != kCommittedFirstLine) {
    return absl::DataLossError(absl::StrCat("its first line is not \"", kCommittedFirstLine, "\""));
  }
  // Between the first line and the text's checksum, which an empty string follows.
  for (size_t i = 1; i + 2 < lines.size(); ++i) {
    const std::vector<std::string_view> fields = absl::StrSplit(lines[i], ' ');
    int64_t bytes = 0;
    if (fields.size() != 3 || !ParseCrc(fields[0]) || !absl::SimpleAtoi(fields[1], &bytes) || !IsFileName(fields[2])) {
      return absl::DataLossError(absl::StrCat("line ", i + 1, " is damaged"));
    }
    files[std::string(fields[2])] = {bytes, *ParseCrc(fields[0])};
  }
  // Whatever reads the same but was not written by FormatCommitted has another text.
  if (FormatCommitted(files) != text) return absl::DataLossError("its own checksum does not match");
  return files;
}

}  // namespace titan
