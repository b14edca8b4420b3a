#include "titan/checkpoint/index.h"

#include <algorithm>
#include <optional>
#include <set>
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
constexpr int64_t kVersion = 2;
constexpr int64_t kOldestVersion = 1;  // a tensor has at most one piece in a file
constexpr char kCommittedFirstLine[] = "titan checkpoint 1";
constexpr char kPartFirstWord[] = "titan_checkpoint_part";

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

absl::StatusOr<nlohmann::json> Object(const nlohmann::json& object, const char* key, const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(nlohmann::json value, Member(object, key, path));
  if (!value.is_object()) return absl::InvalidArgumentError(absl::StrCat(path, ".", key, ": not an object"));
  return value;
}

absl::StatusOr<uint32_t> Crc(const nlohmann::json& object, const char* key, const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, String(object, key, path));
  const std::optional<uint32_t> crc = ParseCrc(text);
  if (!crc) return absl::InvalidArgumentError(absl::StrCat(path, ".", key, ": not 8 hexadecimal digits"));
  return *crc;
}

// The dimension in which the pieces begin at the most places; 0 if they have none.
size_t MostDivided(const std::vector<CheckpointIndex::Piece>& pieces) {
  size_t best = 0;
  size_t most = 0;
  for (size_t d = 0; !pieces.empty() && d < pieces[0].offsets.size(); ++d) {
    std::set<int64_t> places;
    for (const CheckpointIndex::Piece& piece : pieces) places.insert(piece.offsets[d]);
    if (places.size() > most) {
      most = places.size();
      best = d;
    }
  }
  return best;
}

// No two pieces have an element in common. The pieces come in the order in which they begin in one dimension, so that
// each is compared only with those that reach into its range there: a tensor may be in thousands of pieces.
absl::Status CheckDisjoint(const std::vector<CheckpointIndex::Piece>& pieces, const std::string& path) {
  const size_t d = MostDivided(pieces);
  const auto begin = [&](size_t i) { return pieces[i].offsets.empty() ? 0 : pieces[i].offsets[d]; };
  const auto end = [&](size_t i) { return pieces[i].offsets.empty() ? 1 : pieces[i].offsets[d] + pieces[i].shape[d]; };
  std::vector<size_t> order;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].box().num_elements() > 0) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return begin(a) < begin(b); });
  std::vector<size_t> open;  // earlier ones that reach into the range of the current one
  for (const size_t i : order) {
    open.erase(std::remove_if(open.begin(), open.end(), [&](size_t j) { return end(j) <= begin(i); }), open.end());
    for (const size_t j : open) {
      if (Intersection(pieces[i].box(), pieces[j].box())) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ".pieces[", std::max(i, j), "]: overlaps pieces[", std::min(i, j), "]"));
      }
    }
    open.push_back(i);
  }
  return absl::OkStatus();
}

// Every piece lies inside the tensor.
absl::Status CheckInside(const CheckpointIndex::Tensor& tensor, const std::string& path) {
  if (!NumBytes(tensor.dtype, tensor.shape)) return absl::InvalidArgumentError(path + ": its shape is too large");
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
  }
  return absl::OkStatus();
}

// The pieces, which lie inside, have as many bytes as the tensor, and none overlaps another: so they cover it.
absl::Status CheckCover(const CheckpointIndex::Tensor& tensor, const std::string& path) {
  const int64_t bytes = NumBytes(tensor.dtype, tensor.shape).value();
  int64_t missing = bytes;
  for (const CheckpointIndex::Piece& piece : tensor.pieces) {
    missing -= NumBytes(tensor.dtype, piece.shape).value();  // at most that of the tensor
    if (missing < 0) return absl::InvalidArgumentError(path + ": its pieces have more bytes than the tensor");
  }
  if (missing > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": its pieces have ", bytes - missing, " bytes, the tensor has ", bytes));
  }
  return CheckDisjoint(tensor.pieces, path);
}

absl::StatusOr<CheckpointIndex::Piece> ParsePiece(const nlohmann::json& value, int64_t version,
                                                  const std::string& path) {
  CheckpointIndex::Piece piece;
  TITAN_ASSIGN_OR_RETURN(piece.file, String(value, "file", path));
  TITAN_ASSIGN_OR_RETURN(piece.offsets, Sizes(value, "offsets", path));
  TITAN_ASSIGN_OR_RETURN(piece.shape, Sizes(value, "shape", path));
  TITAN_ASSIGN_OR_RETURN(piece.crc32c, Crc(value, "crc32c", path));
  if (version > kOldestVersion && value.count("key") > 0) {
    TITAN_ASSIGN_OR_RETURN(piece.key, String(value, "key", path));
  }
  return piece;
}

absl::StatusOr<CheckpointIndex::Tensor> ParseTensor(const nlohmann::json& value, int64_t version,
                                                    const std::string& path, const CheckpointIndex& index) {
  CheckpointIndex::Tensor tensor;
  TITAN_ASSIGN_OR_RETURN(const std::string dtype_name, String(value, "dtype", path));
  const std::optional<StoredDtype> dtype = StoredDtypeByName(dtype_name);
  if (!dtype) return absl::InvalidArgumentError(absl::StrCat(path, ": unknown dtype \"", dtype_name, "\""));
  tensor.dtype = *dtype;
  TITAN_ASSIGN_OR_RETURN(tensor.shape, Sizes(value, "shape", path));
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json pieces, Member(value, "pieces", path));
  if (!pieces.is_array()) return absl::InvalidArgumentError(absl::StrCat(path, ".pieces: not a list"));
  std::set<std::pair<std::string, std::string>> places;  // file and key
  for (const nlohmann::json& piece_value : pieces) {
    const std::string piece_path = absl::StrCat(path, ".pieces[", tensor.pieces.size(), "]");
    TITAN_ASSIGN_OR_RETURN(CheckpointIndex::Piece piece, ParsePiece(piece_value, version, piece_path));
    if (index.shards.count(piece.file) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(piece_path, ": unknown file \"", piece.file, "\""));
    }
    if (!places.emplace(piece.file, piece.key).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(piece_path, ": a second piece of the same key in \"", piece.file, "\""));
    }
    tensor.pieces.push_back(std::move(piece));
  }
  TITAN_RETURN_IF_ERROR(CheckInside(tensor, path));
  return tensor;
}

// Of a whole checkpoint or of a part of it.
absl::StatusOr<CheckpointIndex> ParsePieces(std::string_view json) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json object, ParseJsonObject(json));
  TITAN_ASSIGN_OR_RETURN(const std::string format, String(object, "format", "index"));
  TITAN_ASSIGN_OR_RETURN(const int64_t version, Integer(object, "version", "index"));
  if (format != kFormat || version < kOldestVersion || version > kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("format \"", format, "\" version ", version, "; this titan reads \"",
                                                   kFormat, "\" versions ", kOldestVersion, " to ", kVersion));
  }
  CheckpointIndex index;
  TITAN_ASSIGN_OR_RETURN(index.step, Integer(object, "step", "index"));
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json files, Object(object, "files", "index"));
  for (const auto& [file, value] : files.items()) {
    const std::string path = absl::StrCat("files.", file);
    if (!IsFileName(file)) return absl::InvalidArgumentError(absl::StrCat(path, ": not a file name"));
    CheckpointIndex::Shard shard;
    TITAN_ASSIGN_OR_RETURN(shard.bytes, Integer(value, "bytes", path));
    TITAN_ASSIGN_OR_RETURN(shard.header_crc32c, Crc(value, "header_crc32c", path));
    index.shards[file] = shard;
  }
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json tensors, Object(object, "tensors", "index"));
  for (const auto& [name, value] : tensors.items()) {
    TITAN_ASSIGN_OR_RETURN(index.tensors[name], ParseTensor(value, version, absl::StrCat("tensors.", name), index));
  }
  return index;
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
      if (!piece.key.empty()) pieces.back()["key"] = piece.key;
    }
    const nlohmann::json value = {{"dtype", NameOf(tensor.dtype)}, {"shape", tensor.shape}, {"pieces", pieces}};
    absl::StrAppend(&text, separator, nlohmann::json(name).dump(), ": ", value.dump());
    separator = ",\n";
  }
  text += "\n}\n}\n";
  return text;
}

absl::StatusOr<CheckpointIndex> ParseIndex(std::string_view json) {
  TITAN_ASSIGN_OR_RETURN(CheckpointIndex index, ParsePieces(json));
  TITAN_RETURN_IF_ERROR(CheckComplete(index));
  return index;
}

absl::Status CheckComplete(const CheckpointIndex& index) {
  for (const auto& [name, tensor] : index.tensors) {
    TITAN_RETURN_IF_ERROR(CheckInside(tensor, absl::StrCat("tensors.", name)));
    TITAN_RETURN_IF_ERROR(CheckCover(tensor, absl::StrCat("tensors.", name)));
  }
  return absl::OkStatus();
}

absl::Status Merge(const CheckpointIndex& part, CheckpointIndex& index) {
  for (const auto& [file, shard] : part.shards) {
    if (!index.shards.emplace(file, shard).second) {
      return absl::InvalidArgumentError(absl::StrCat("two writers have written ", file));
    }
  }
  for (const auto& [name, tensor] : part.tensors) {
    const auto [found, is_new] = index.tensors.emplace(name, tensor);
    if (is_new) continue;
    if (found->second.dtype != tensor.dtype || found->second.shape != tensor.shape) {
      return absl::InvalidArgumentError(absl::StrCat("two writers disagree about the dtype or shape of ", name));
    }
    found->second.pieces.insert(found->second.pieces.end(), tensor.pieces.begin(), tensor.pieces.end());
  }
  return absl::OkStatus();
}

std::string FormatPart(const CheckpointPart& part) {
  const std::string text = absl::StrCat(part.save_id, " ", part.rank, "\n", FormatIndex(part.index));
  return absl::StrCat(kPartFirstWord, " ", CrcText(Crc32c(text)), "\n", text);
}

absl::StatusOr<CheckpointPart> ParsePart(std::string_view text) {
  const std::vector<std::string_view> lines = absl::StrSplit(text, absl::MaxSplits('\n', 2));
  if (lines.size() != 3) return absl::DataLossError("damaged: it is cut off");
  const std::string_view checked = text.substr(lines[0].size() + 1);
  if (lines[0] != absl::StrCat(kPartFirstWord, " ", CrcText(Crc32c(checked)))) {
    return absl::DataLossError("damaged: its checksum does not match");
  }
  CheckpointPart part;
  const std::vector<std::string_view> words = absl::StrSplit(lines[1], ' ');
  if (words.size() != 2 || !absl::SimpleAtoi(words[1], &part.rank)) {
    return absl::DataLossError("damaged: its second line is not a save and a rank");
  }
  part.save_id = std::string(words[0]);
  TITAN_ASSIGN_OR_RETURN(part.index, ParsePieces(lines[2]));
  return part;
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
