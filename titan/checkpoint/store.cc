#include "titan/checkpoint/store.h"

#include <ATen/ops/empty.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/base/crc32c.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/base/with_context.h"
#include "titan/checkpoint/step_folder.h"

namespace titan {
namespace {

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

absl::Status CheckSize(const std::string& path, int64_t bytes) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return absl::DataLossError(absl::StrCat(path, ": the file is missing or unreadable"));
  }
  if (info.st_size == bytes) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path, ": damaged: ", info.st_size, " bytes instead of ", bytes));
}

at::Tensor Narrow(at::Tensor tensor, const std::vector<int64_t>& offsets, const std::vector<int64_t>& shape) {
  for (size_t d = 0; d < shape.size(); ++d) tensor = tensor.narrow(static_cast<int64_t>(d), offsets[d], shape[d]);
  return tensor;
}

// Where `inner` is, seen from the beginning of `outer`, in which it lies.
std::vector<int64_t> Relative(const Box& inner, const std::vector<int64_t>& outer) {
  std::vector<int64_t> offsets = inner.offsets;
  for (size_t d = 0; d < offsets.size(); ++d) offsets[d] -= outer[d];
  return offsets;
}

}  // namespace

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

absl::Status PruneCheckpoints(const std::string& dir, int64_t keep_latest_k, int64_t last_step) {
  TITAN_ASSIGN_OR_RETURN(std::vector<StoredStep> steps, ListCheckpoints(dir));
  while (!steps.empty() && steps.back().step > last_step) steps.pop_back();
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
    TITAN_RETURN_IF_ERROR(CheckSize(absl::StrCat(path, "/", file), shard.bytes));
  }
  checkpoint.shards_ = std::make_shared<Checkpoint::Shards>();
  checkpoint.index_ = std::make_shared<const CheckpointIndex>(*std::move(index));
  return checkpoint;
}

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Checkpoint::Shard(const std::string& file) const {
  std::shared_ptr<const SafetensorsFile>& opened = (*shards_)[file];
  if (opened != nullptr) return opened;
  const CheckpointIndex::Shard& shard = index_->shards.at(file);
  const std::string path = absl::StrCat(path_, "/", file);
  TITAN_RETURN_IF_ERROR(CheckSize(path, shard.bytes));
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const SafetensorsFile> mapped, SafetensorsFile::Open(path));
  const absl::Span<const std::byte> header = mapped->header();
  if (Crc32c(std::string_view(reinterpret_cast<const char*>(header.data()), header.size())) != shard.header_crc32c) {
    return absl::DataLossError(absl::StrCat(path, ": damaged: the checksum of its header does not match"));
  }
  return opened = mapped;
}

absl::StatusOr<at::Tensor> Checkpoint::LoadPiece(const std::string& name, const CheckpointIndex::Piece& piece) const {
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const SafetensorsFile> file, Shard(piece.file));
  const SafetensorsFile::Entry* entry = file->Find(piece.NameIn(name));
  if (entry == nullptr || entry->dtype != index_->tensors.at(name).dtype || entry->shape != piece.shape) {
    return absl::DataLossError(
        absl::StrCat(file->path(), ": has no \"", piece.NameIn(name), "\" of the dtype and shape in ", kIndexFile));
  }
  const std::string_view bytes(reinterpret_cast<const char*>(entry->data.data()), entry->data.size());
  if (Crc32c(bytes) != piece.crc32c) {
    return absl::DataLossError(
        absl::StrCat(file->path(), ": tensor \"", piece.NameIn(name), "\" is damaged: its checksum does not match"));
  }
  return ViewOf(file, *entry);
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
    Narrow(whole, piece.offsets, piece.shape).copy_(view);
  }
  return whole;
}

absl::Status Checkpoint::Read(const std::string& name, const std::vector<int64_t>& shape, const std::vector<Box>& boxes,
                              const at::Tensor& out) const {
  const auto found = index_->tensors.find(name);
  if (found == index_->tensors.end()) {
    return absl::NotFoundError(absl::StrCat(path_, ": has no tensor \"", name, "\""));
  }
  const CheckpointIndex::Tensor& tensor = found->second;
  if (tensor.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": ", name, " has the shape (",
                                                   absl::StrJoin(tensor.shape, ", "), ") where the model wants (",
                                                   absl::StrJoin(shape, ", "), ")"));
  }
  std::vector<at::Tensor> targets;
  int64_t begin = 0;
  for (const Box& box : boxes) {
    targets.push_back(out.narrow(0, begin, box.num_elements()).view(box.shape));
    begin += box.num_elements();
  }
  CHECK_EQ(begin, out.numel());
  for (const CheckpointIndex::Piece& piece : tensor.pieces) {
    at::Tensor view;  // of the piece, once it is needed
    for (size_t i = 0; i < boxes.size(); ++i) {
      const std::optional<Box> both = Intersection(boxes[i], piece.box());
      if (!both) continue;
      if (!view.defined()) {
        TITAN_ASSIGN_OR_RETURN(view, LoadPiece(name, piece));
      }
      Narrow(targets[i], Relative(*both, boxes[i].offsets), both->shape)
          .copy_(Narrow(view, Relative(*both, piece.offsets), both->shape));
    }
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::Verify() const {
  std::vector<std::string> damage;
  for (const auto& [file, unused] : index_->shards) {
    if (const auto shard = Shard(file); !shard.ok()) damage.emplace_back(shard.status().message());
  }
  if (!damage.empty()) return absl::DataLossError(absl::StrJoin(damage, "\n"));
  for (const auto& [name, tensor] : index_->tensors) {
    for (const CheckpointIndex::Piece& piece : tensor.pieces) {
      const absl::StatusOr<at::Tensor> view = LoadPiece(name, piece);
      if (!view.ok()) damage.emplace_back(view.status().message());
    }
  }
  return damage.empty() ? absl::OkStatus() : absl::DataLossError(absl::StrJoin(damage, "\n"));
}

}  // namespace titan
