#include "titan/checkpoint/save.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "titan/base/crc32c.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/base/with_context.h"
#include "titan/checkpoint/index.h"
#include "titan/checkpoint/json.h"
#include "titan/checkpoint/safetensors.h"
#include "titan/checkpoint/step_folder.h"

namespace titan {
namespace {

constexpr std::chrono::milliseconds kFirstPoll{1}, kLongestPoll{100};

std::string ShardFile(int64_t rank) { return absl::StrFormat("shard-%05d.safetensors", rank); }
// What rank 0 waits for: one of the two.
std::string PartFile(int64_t rank) { return absl::StrFormat("part-%05d", rank); }
std::string FailureFile(int64_t rank) { return absl::StrFormat("failed-%05d", rank); }

std::string_view TextOf(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The names of the pieces in their file: that of the tensor, and NAME#1, NAME#2 for further ones.
std::vector<std::string> KeysOf(const std::vector<ShardPiece>& pieces) {
  std::map<std::string, int64_t> counts;
  std::vector<std::string> keys;
  for (const ShardPiece& piece : pieces) {
    const int64_t number = counts[piece.tensor]++;
    keys.push_back(number == 0 ? piece.tensor : absl::StrCat(piece.tensor, "#", number));
  }
  return keys;
}

absl::Status WriteShardFile(const SaveTask& task, const std::vector<ShardPiece>& pieces, CheckpointIndex& index) {
  const std::string file = ShardFile(task.rank);
  const std::vector<std::string> keys = KeysOf(pieces);
  std::vector<TensorHeader> headers;
  for (size_t i = 0; i < pieces.size(); ++i) {
    TITAN_ASSIGN_OR_RETURN(const StoredDtype dtype, StoredDtypeOf(pieces[i].dtype));
    headers.push_back({keys[i], dtype, pieces[i].box.shape});
  }
  TITAN_ASSIGN_OR_RETURN(SafetensorsWriter writer,
                         SafetensorsWriter::Create(absl::StrCat(task.folder(), "/", file), headers));
  for (size_t i = 0; i < pieces.size(); ++i) {
    const ShardPiece& piece = pieces[i];
    at::Tensor data = piece.data;
    if (!data.defined()) {
      TITAN_ASSIGN_OR_RETURN(data, piece.read());
    }
    const at::Tensor host = data.to(at::kCPU, piece.dtype).contiguous();
    const absl::Span<const std::byte> bytes = BytesOf(host);
    TITAN_RETURN_IF_ERROR(writer.Append(bytes));
    CheckpointIndex::Tensor& tensor = index.tensors[piece.tensor];
    tensor.dtype = headers[i].dtype;
    tensor.shape = piece.shape;
    tensor.pieces.push_back(
        {file, piece.box.offsets, piece.box.shape, Crc32c(TextOf(bytes)), keys[i] == piece.tensor ? "" : keys[i]});
  }
  index.shards[file] = {writer.file_bytes(), Crc32c(writer.header())};
  return writer.Close();
}

// The part of a rank, as soon as it is there.
absl::StatusOr<CheckpointPart> AwaitPart(const SaveTask& task, int64_t rank, const CommitOptions& options,
                                         std::chrono::steady_clock::time_point deadline) {
  const std::string path = absl::StrCat(task.folder(), "/", PartFile(rank));
  const std::string failure = absl::StrCat(task.folder(), "/", FailureFile(rank));
  for (std::chrono::milliseconds pause = kFirstPoll; !Exists(path); pause = std::min(2 * pause, kLongestPoll)) {
    if (Exists(failure)) {
      return absl::AbortedError(absl::StrCat("rank ", rank, ": ", ReadFile(failure).value_or("it failed to write")));
    }
    if (options.cancelled != nullptr && *options.cancelled) {
      return absl::CancelledError(absl::StrCat("the run ends, and the shard of rank ", rank, " is not there"));
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("the shard of rank ", rank, " is not there after ",
                       std::chrono::duration_cast<std::chrono::seconds>(options.time_limit).count(),
                       " s; do all ranks see ", task.dir, "?"));
    }
    std::this_thread::sleep_for(pause);
  }
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  absl::StatusOr<CheckpointPart> part = ParsePart(text);
  if (!part.ok()) return WithContext(path, part.status());
  if (part->save_id != task.id || part->rank != rank || part->index.step != task.step) {
    return absl::DataLossError(absl::StrCat(path, ": is of rank ", part->rank, ", step ", part->index.step, ", save ",
                                            part->save_id, " and not of save ", task.id));
  }
  for (const auto& [file, shard] : part->index.shards) {
    struct stat info;
    const std::string shard_path = absl::StrCat(task.folder(), "/", file);
    if (stat(shard_path.c_str(), &info) != 0 || info.st_size != shard.bytes) {
      return absl::DataLossError(absl::StrCat(shard_path, ": is not there as rank ", rank, " has written it"));
    }
  }
  return part;
}

// All pieces of all ranks; their part files are gone then.
absl::StatusOr<CheckpointIndex> MergeParts(const SaveTask& task, const CommitOptions& options) {
  const auto deadline = std::chrono::steady_clock::now() + options.time_limit;
  CheckpointIndex index;
  index.step = task.step;
  for (int64_t rank = 0; rank < task.world_size; ++rank) {
    TITAN_ASSIGN_OR_RETURN(const CheckpointPart part, AwaitPart(task, rank, options, deadline));
    TITAN_RETURN_IF_ERROR(Merge(part.index, index));
  }
  TITAN_RETURN_IF_ERROR(CheckComplete(index));
  for (int64_t rank = 0; rank < task.world_size; ++rank) {
    const std::string path = absl::StrCat(task.folder(), "/", PartFile(rank));
    if (unlink(path.c_str()) != 0) return SystemError(errno, "cannot remove", path);
  }
  return index;
}

// The text files, COMMITTED last.
absl::Status WriteTexts(const std::string& folder, const CheckpointIndex& index, const std::string& state,
                        const std::string& experiment) {
  const std::pair<const char*, std::string> texts[] = {
      {kIndexFile, FormatIndex(index)}, {kStateFile, state}, {kExperimentFile, experiment}};
  CommittedFiles committed;
  for (const auto& [name, text] : texts) {
    TITAN_RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(folder, "/", name), text));
    committed[name] = {static_cast<int64_t>(text.size()), Crc32c(text)};
  }
  TITAN_RETURN_IF_ERROR(SyncDirectory(folder));
  return WriteFileAtomically(absl::StrCat(folder, "/", kCommittedFile), FormatCommitted(committed));
}

absl::Status CheckTask(const SaveTask& task, const std::string& state) {
  if (task.step < 0) return absl::InvalidArgumentError(absl::StrCat("step ", task.step, " is negative"));
  if (const auto object = ParseJsonObject(state); !object.ok()) {
    return WithContext("the state of a checkpoint", object.status());
  }
  return absl::OkStatus();
}

absl::Status NotSaved(const SaveTask& task, const absl::Status& reason) {
  return WithContext(absl::StrCat("step ", task.step, " was not saved, earlier checkpoints are as they were"), reason);
}

void RemoveTemporary(const SaveTask& task) {
  // If this fails, the next save tries again.
  if (!Exists(absl::StrCat(task.folder(), "/", kCommittedFile))) RemoveFolder(task.folder()).IgnoreError();
}

}  // namespace

std::string SaveTask::folder() const { return absl::StrCat(dir, "/", TemporaryName(step, id)); }

std::string NewSaveId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x", random(), random());
}

absl::Status PrepareSave(const SaveTask& task) {
  TITAN_RETURN_IF_ERROR(MakeDirectories(task.dir));
  TITAN_RETURN_IF_ERROR(SyncDirectory(task.dir + "/.."));
  return RemoveLeftovers(task.dir, TemporaryName(task.step, task.id));
}

absl::Status WriteShard(const SaveTask& task, const std::vector<ShardPiece>& pieces) {
  const absl::Status status = [&]() -> absl::Status {
    TITAN_RETURN_IF_ERROR(MakeDirectories(task.folder()));
    CheckpointPart part{.save_id = task.id, .rank = task.rank, .index = {}};
    part.index.step = task.step;
    if (!pieces.empty()) TITAN_RETURN_IF_ERROR(WriteShardFile(task, pieces, part.index));
    // The part's name is durable, and so is the shard's, when this returns.
    return WriteFileAtomically(absl::StrCat(task.folder(), "/", PartFile(task.rank)), FormatPart(part));
  }();
  if (status.ok()) return status;
  AbandonShard(task, status);
  return NotSaved(task, status);
}

void AbandonShard(const SaveTask& task, const absl::Status& reason) {
  if (task.rank == 0) return RemoveTemporary(task);
  // Makes room for the note.
  unlink(absl::StrCat(task.folder(), "/", ShardFile(task.rank)).c_str());
  if (!MakeDirectories(task.folder()).ok()) return;
  WriteFileAtomically(absl::StrCat(task.folder(), "/", FailureFile(task.rank)), reason.message()).IgnoreError();
}

absl::StatusOr<std::string> CommitShards(const SaveTask& task, const std::string& state, const std::string& experiment,
                                         const CommitOptions& options) {
  const std::string path = absl::StrCat(task.dir, "/", StepName(task.step));
  const absl::Status status = [&]() -> absl::Status {
    TITAN_RETURN_IF_ERROR(CheckTask(task, state));
    TITAN_ASSIGN_OR_RETURN(const CheckpointIndex index, MergeParts(task, options));
    TITAN_RETURN_IF_ERROR(WriteTexts(task.folder(), index, state, experiment));
    return Publish(task.dir, task.folder(), path);
  }();
  if (status.ok()) return path;
  RemoveTemporary(task);
  return NotSaved(task, status);
}

absl::StatusOr<std::string> SaveCheckpoint(const std::string& dir, const CheckpointContents& contents) {
  const SaveTask task{.dir = dir, .step = contents.step, .id = NewSaveId()};
  TITAN_RETURN_IF_ERROR(CheckTask(task, contents.state));
  std::vector<ShardPiece> pieces;
  for (const auto& [name, tensor] : contents.tensors) {
    const std::vector<int64_t> shape = tensor.sizes().vec();
    pieces.push_back({name, shape, {std::vector<int64_t>(shape.size(), 0), shape}, tensor, tensor.scalar_type()});
  }
  if (const absl::Status status = PrepareSave(task); !status.ok()) return NotSaved(task, status);
  TITAN_RETURN_IF_ERROR(WriteShard(task, pieces));
  return CommitShards(task, contents.state, contents.experiment, {});
}

}  // namespace titan
