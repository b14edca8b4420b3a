#include "titan/checkpoint/store.h"

#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "titan/base/crc32c.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/json.h"

namespace titan {
namespace {

constexpr char kIndexFile[] = "index.json";
constexpr char kStateFile[] = "state.json";
constexpr char kExperimentFile[] = "experiment.binpb";
constexpr char kCommittedFile[] = "COMMITTED";
// Of the only writer; a run of many ranks will have one each.
constexpr char kShardFile[] = "shard-00000.safetensors";
// Ends the names of folders that are being written or thrown away.
constexpr char kTemporarySuffix[] = ".tmp";

std::string StepName(int64_t step) { return absl::StrCat("step-", step); }

// The N of "step-N"; nullopt for other names, "step-007" among them.
std::optional<int64_t> StepOf(std::string_view name) {
  int64_t step = 0;
  if (!absl::StartsWith(name, "step-") || !absl::SimpleAtoi(name.substr(5), &step)) return std::nullopt;
  return step >= 0 && StepName(step) == name ? std::make_optional(step) : std::nullopt;
}

bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

absl::Status WithContext(const std::string& context, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(context, ": ", status.message()));
}

absl::Status RemoveFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return error ? SystemError(error.value(), "cannot remove", path) : absl::OkStatus();
}

// Names of the folders in `dir`; none if it does not exist.
absl::StatusOr<std::vector<std::string>> FoldersIn(const std::string& dir) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(dir, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    std::error_code unreadable;
    if (entry->is_directory(unreadable)) names.push_back(entry->path().filename().string());
  }
  if (error) return SystemError(error.value(), "cannot list", dir);
  return names;
}

// What interrupted saves and removals have left.
absl::Status RemoveLeftovers(const std::string& dir) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> names, FoldersIn(dir));
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, kTemporarySuffix)) continue;
    if (!StepOf(name.substr(0, name.size() - sizeof(kTemporarySuffix) + 1))) continue;
    TITAN_RETURN_IF_ERROR(RemoveFolder(absl::StrCat(dir, "/", name)));
  }
  return absl::OkStatus();
}

// Takes the commitment away first, so that a half-removed checkpoint is none.
absl::Status RemoveCheckpoint(const std::string& path) {
  const std::string committed = absl::StrCat(path, "/", kCommittedFile);
  if (unlink(committed.c_str()) != 0 && errno != ENOENT) return SystemError(errno, "cannot remove", committed);
  TITAN_RETURN_IF_ERROR(SyncDirectory(path));
  return RemoveFolder(path);
}

absl::Status WriteShard(const std::string& folder, const NamedTensors& tensors, CheckpointIndex& index) {
  std::vector<TensorHeader> headers;
  for (const auto& [name, tensor] : tensors) {
    TITAN_ASSIGN_OR_RETURN(const StoredDtype dtype, StoredDtypeOf(tensor.scalar_type()));
    headers.push_back({name, dtype, tensor.sizes().vec()});
  }
  TITAN_ASSIGN_OR_RETURN(SafetensorsWriter writer,
                         SafetensorsWriter::Create(absl::StrCat(folder, "/", kShardFile), headers));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor host = tensors[i].second.cpu().contiguous();
    const absl::Span<const std::byte> bytes = BytesOf(host);
    TITAN_RETURN_IF_ERROR(writer.Append(bytes));
    const TensorHeader& header = headers[i];
    const uint32_t crc = Crc32c(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    index.tensors[header.name] = {
        header.dtype, header.shape, {{kShardFile, std::vector<int64_t>(header.shape.size(), 0), header.shape, crc}}};
  }
  index.shards[kShardFile] = {writer.file_bytes(), Crc32c(writer.header())};
  return writer.Close();
}

// All files of a checkpoint, COMMITTED last.
absl::Status WriteStep(const std::string& folder, const CheckpointContents& contents) {
  TITAN_RETURN_IF_ERROR(MakeDirectories(folder));
  CheckpointIndex index;
  index.step = contents.step;
  TITAN_RETURN_IF_ERROR(WriteShard(folder, contents.tensors, index));
  const std::pair<const char*, std::string> texts[] = {
      {kIndexFile, FormatIndex(index)}, {kStateFile, contents.state}, {kExperimentFile, contents.experiment}};
  CommittedFiles committed;
  for (const auto& [name, text] : texts) {
    TITAN_RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(folder, "/", name), text));
    committed[name] = {static_cast<int64_t>(text.size()), Crc32c(text)};
  }
  TITAN_RETURN_IF_ERROR(SyncDirectory(folder));
  return WriteFileAtomically(absl::StrCat(folder, "/", kCommittedFile), FormatCommitted(committed));
}

// Gives the complete folder `temporary` its name; a folder of that name takes its place and is then removed.
absl::Status Publish(const std::string& dir, const std::string& temporary, const std::string& path) {
  if (Exists(path)) {
    if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
      // What was step N before is a leftover now; if it cannot be removed, the next save tries again.
      RemoveFolder(temporary).IgnoreError();
      return SyncDirectory(dir);
    }
    // Some network file systems cannot exchange. Then, for a moment, there is no step N; the others are there.
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) return SystemError(errno, "cannot replace", path);
    TITAN_RETURN_IF_ERROR(RemoveCheckpoint(path));
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) return SystemError(errno, "cannot create", path);
  return SyncDirectory(dir);
}

absl::StatusOr<std::string> ReadCommittedFile(const std::string& folder, const char* name,
                                              const CommittedFiles& committed) {
  const std::string path = absl::StrCat(folder, "/", name);
  const auto expected = committed.find(name);
  if (expected == committed.end()) return absl::DataLossError(absl::StrCat(folder, "/COMMITTED: no line for ", name));
  absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return absl::DataLossError(absl::StrCat(path, ": the file is missing"));
  TITAN_RETURN_IF_ERROR(text.status());
  if (static_cast<int64_t>(text->size()) != expected->second.bytes) {
    return absl::DataLossError(
        absl::StrCat(path, ": damaged: ", text->size(), " bytes instead of ", expected->second.bytes));
  }
  if (Crc32c(*text) != expected->second.crc32c) {
    return absl::DataLossError(absl::StrCat(path, ": damaged: its checksum does not match"));
  }
  return text;
}

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> OpenShard(const std::string& path,
                                                                 const CheckpointIndex::Shard& shard) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return absl::DataLossError(absl::StrCat(path, ": the file is missing or unreadable"));
  }
  if (info.st_size != shard.bytes) {
    return absl::DataLossError(absl::StrCat(path, ": damaged: ", info.st_size, " bytes instead of ", shard.bytes));
  }
  TITAN_ASSIGN_OR_RETURN(std::shared_ptr<const SafetensorsFile> file, SafetensorsFile::Open(path));
  const absl::Span<const std::byte> header = file->header();
  if (Crc32c(std::string_view(reinterpret_cast<const char*>(header.data()), header.size())) != shard.header_crc32c) {
    return absl::DataLossError(absl::StrCat(path, ": damaged: the checksum of its header does not match"));
  }
  return file;
}

}  // namespace

absl::StatusOr<std::string> SaveCheckpoint(const std::string& dir, const CheckpointContents& contents) {
  if (contents.step < 0) return absl::InvalidArgumentError(absl::StrCat("step ", contents.step, " is negative"));
  if (const auto state = ParseJsonObject(contents.state); !state.ok()) {
    return WithContext("the state of a checkpoint", state.status());
  }
  const std::string path = absl::StrCat(dir, "/", StepName(contents.step));
  const std::string temporary = path + kTemporarySuffix;
  const absl::Status status = [&]() -> absl::Status {
    TITAN_RETURN_IF_ERROR(MakeDirectories(dir));
    TITAN_RETURN_IF_ERROR(SyncDirectory(dir + "/.."));
    TITAN_RETURN_IF_ERROR(RemoveLeftovers(dir));
    TITAN_RETURN_IF_ERROR(WriteStep(temporary, contents));
    return Publish(dir, temporary, path);
  }();
  if (status.ok()) return path;
  // If this fails too, the next save tries again.
  if (!Exists(absl::StrCat(temporary, "/", kCommittedFile))) RemoveFolder(temporary).IgnoreError();
  return WithContext(absl::StrCat("step ", contents.step, " was not saved, earlier checkpoints are as they were"),
                     status);
}

absl::StatusOr<std::vector<StoredStep>> ListCheckpoints(const std::string& dir) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> names, FoldersIn(dir));
  std::vector<StoredStep> steps;
  for (const std::string& name : names) {
    const std::optional<int64_t> step = StepOf(name);
    const std::string path = absl::StrCat(dir, "/", name);
    if (step && Exists(absl::StrCat(path, "/", kCommittedFile))) steps.push_back({*step, path});
  }
  std::sort(steps.begin(), steps.end(), [](const StoredStep& a, const StoredStep& b) { return a.step < b.step; });
  return steps;
}

absl::StatusOr<StoredStep> FindLatest(const std::string& dir) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<StoredStep> steps, ListCheckpoints(dir));
  if (steps.empty()) return absl::NotFoundError(absl::StrCat(dir, ": no complete checkpoint"));
  return steps.back();
}

absl::Status PruneCheckpoints(const std::string& dir, int64_t keep_latest_k) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<StoredStep> steps, ListCheckpoints(dir));
  TITAN_RETURN_IF_ERROR(RemoveLeftovers(dir));
  if (steps.empty()) return absl::OkStatus();
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> names, FoldersIn(dir));
  const int64_t num_steps = static_cast<int64_t>(steps.size());
  const int64_t num_removed = keep_latest_k > 0 ? std::max(int64_t{0}, num_steps - keep_latest_k) : 0;
  const auto is_kept = [&](int64_t step) {
    return std::any_of(steps.begin() + num_removed, steps.end(), [&](const StoredStep& s) { return s.step == step; });
  };
  for (const std::string& name : names) {
    const std::optional<int64_t> step = StepOf(name);
    if (!step || *step > steps.back().step || is_kept(*step)) continue;
    TITAN_RETURN_IF_ERROR(RemoveCheckpoint(absl::StrCat(dir, "/", name)));
  }
  return SyncDirectory(dir);
}

absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path) {
  if (!Exists(path)) return absl::NotFoundError(absl::StrCat(path, ": no such checkpoint"));
  const std::string committed_path = absl::StrCat(path, "/", kCommittedFile);
  if (!Exists(committed_path)) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": no file COMMITTED: this is no checkpoint, or its saving was interrupted; use another step"));
  }
  TITAN_ASSIGN_OR_RETURN(const std::string committed_text, ReadFile(committed_path));
  const absl::StatusOr<CommittedFiles> committed = ParseCommitted(committed_text);
  if (!committed.ok()) return WithContext(absl::StrCat(committed_path, ": damaged"), committed.status());

  Checkpoint checkpoint;
  checkpoint.path_ = path;
  TITAN_ASSIGN_OR_RETURN(const std::string index_text, ReadCommittedFile(path, kIndexFile, *committed));
  TITAN_ASSIGN_OR_RETURN(checkpoint.state_, ReadCommittedFile(path, kStateFile, *committed));
  TITAN_ASSIGN_OR_RETURN(checkpoint.experiment_, ReadCommittedFile(path, kExperimentFile, *committed));
  absl::StatusOr<CheckpointIndex> index = ParseIndex(index_text);
  if (!index.ok()) return WithContext(absl::StrCat(path, "/", kIndexFile), index.status());
  for (const auto& [file, shard] : index->shards) {
    TITAN_ASSIGN_OR_RETURN(checkpoint.shards_[file], OpenShard(absl::StrCat(path, "/", file), shard));
  }
  for (const auto& [name, tensor] : index->tensors) {
    for (const CheckpointIndex::Piece& piece : tensor.pieces) {
      const SafetensorsFile::Entry* entry = checkpoint.shards_.at(piece.file)->Find(name);
      if (entry == nullptr || entry->dtype != tensor.dtype || entry->shape != piece.shape) {
        return absl::DataLossError(
            absl::StrCat(path, "/", piece.file, ": has no \"", name, "\" of the dtype and shape in ", kIndexFile));
      }
    }
  }
  checkpoint.index_ = std::make_shared<const CheckpointIndex>(*std::move(index));
  return checkpoint;
}

absl::StatusOr<at::Tensor> Checkpoint::LoadPiece(const std::string& name, const CheckpointIndex::Piece& piece) const {
  const std::shared_ptr<const SafetensorsFile>& file = shards_.at(piece.file);
  const SafetensorsFile::Entry& entry = *file->Find(name);  // OpenCheckpoint has seen it
  const std::string_view bytes(reinterpret_cast<const char*>(entry.data.data()), entry.data.size());
  if (Crc32c(bytes) != piece.crc32c) {
    return absl::DataLossError(
        absl::StrCat(file->path(), ": tensor \"", name, "\" is damaged: its checksum does not match"));
  }
  return ViewOf(file, entry);
}

absl::StatusOr<at::Tensor> Checkpoint::Load(const std::string& name) const {
  const auto found = index_->tensors.find(name);
  if (found == index_->tensors.end()) {
    return absl::NotFoundError(absl::StrCat(path_, ": has no tensor \"", name, "\""));
  }
  const CheckpointIndex::Tensor& tensor = found->second;
  at::Tensor whole = at::empty(tensor.shape, at::TensorOptions().dtype(ScalarTypeOf(tensor.dtype)));
  for (const CheckpointIndex::Piece& piece : tensor.pieces) {
    TITAN_ASSIGN_OR_RETURN(const at::Tensor view, LoadPiece(name, piece));
    at::Tensor target = whole;
    for (size_t d = 0; d < piece.shape.size(); ++d) {
      target = target.narrow(static_cast<int64_t>(d), piece.offsets[d], piece.shape[d]);
    }
    target.copy_(view);
  }
  return whole;
}

absl::Status Checkpoint::Verify() const {
  std::vector<std::string> damage;
  for (const auto& [name, tensor] : index_->tensors) {
    for (const CheckpointIndex::Piece& piece : tensor.pieces) {
      const absl::StatusOr<at::Tensor> view = LoadPiece(name, piece);
      if (!view.ok()) damage.emplace_back(view.status().message());
    }
  }
  return damage.empty() ? absl::OkStatus() : absl::DataLossError(absl::StrJoin(damage, "\n"));
}

}  // namespace titan
