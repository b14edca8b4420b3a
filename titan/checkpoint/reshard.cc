#include "titan/checkpoint/reshard.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/box.h"
#include "titan/checkpoint/save.h"
#include "titan/checkpoint/step_folder.h"

namespace titan {
namespace {

using Tensors = std::map<std::string, CheckpointIndex::Tensor>;

int64_t BytesOfAll(const Tensors& tensors) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += NumBytes(tensor.dtype, tensor.shape).value();
  return bytes;
}

// The first byte of shard `rank` in the row of all tensors; without the product, which could overflow.
int64_t Cut(int64_t bytes, int64_t rank, int64_t shards) {
  return bytes / shards * rank + bytes % shards * rank / shards;
}

// The elements of a tensor that begins at byte `start` of the row, up to byte `cut`: one that is cut in two is before.
int64_t ElementsBefore(int64_t cut, int64_t start, int64_t element_bytes, int64_t count) {
  const int64_t rounded_up = cut <= start ? 0 : (cut - start + element_bytes - 1) / element_bytes;
  return std::min(rounded_up, count);
}

std::vector<ShardPiece> PiecesOf(const Checkpoint& checkpoint, int64_t begin, int64_t end, bool with_empty) {
  std::vector<ShardPiece> pieces;
  int64_t start = 0;
  for (const auto& [name, tensor] : checkpoint.index().tensors) {
    const Box whole = {std::vector<int64_t>(tensor.shape.size(), 0), tensor.shape};
    const auto element_bytes = static_cast<int64_t>(SizeOf(tensor.dtype));
    const int64_t count = whole.num_elements();
    std::vector<Box> boxes = BoxesOfRange(tensor.shape, ElementsBefore(begin, start, element_bytes, count),
                                          ElementsBefore(end, start, element_bytes, count));
    if (count == 0 && with_empty) boxes = {whole};
    for (const Box& box : boxes) {
      ShardPiece& piece = pieces.emplace_back();
      piece.tensor = name;
      piece.shape = tensor.shape;
      piece.box = box;
      piece.dtype = ScalarTypeOf(tensor.dtype);
      piece.read = [&checkpoint, name = name, shape = tensor.shape, box, dtype = piece.dtype]() {
        at::Tensor out = at::empty({box.num_elements()}, at::TensorOptions().dtype(dtype));
        const absl::Status status = checkpoint.Read(name, shape, {box}, out);
        return status.ok() ? absl::StatusOr<at::Tensor>(out.view(box.shape)) : status;
      };
    }
    start += count * element_bytes;
  }
  return pieces;
}

}  // namespace

absl::StatusOr<std::string> Reshard(const Checkpoint& checkpoint, const std::string& dir, int64_t shards) {
  if (shards < 1 || shards > kMaxShards) {
    return absl::InvalidArgumentError(absl::StrCat(shards, " shards; 1 to ", kMaxShards, " can be written"));
  }
  SaveTask task{.dir = dir, .step = checkpoint.step(), .id = NewSaveId(), .world_size = shards};
  if (const std::string path = absl::StrCat(dir, "/", StepName(task.step)); Exists(path)) {
    return absl::AlreadyExistsError(absl::StrCat(path, ": is there already; name another folder"));
  }
  TITAN_RETURN_IF_ERROR(PrepareSave(task));
  const int64_t bytes = BytesOfAll(checkpoint.index().tensors);
  for (int64_t rank = 0; rank < shards; ++rank) {
    SaveTask part = task;
    part.rank = rank;
    const absl::Status written =
        WriteShard(part, PiecesOf(checkpoint, Cut(bytes, rank, shards), Cut(bytes, rank + 1, shards), rank == 0));
    if (written.ok()) continue;
    AbandonShard(task, written);
    return written;
  }
  return CommitShards(task, checkpoint.state(), checkpoint.experiment(), {});
}

}  // namespace titan
