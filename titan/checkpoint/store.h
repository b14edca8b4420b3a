// The checkpoints of a run: folders step-N below one folder, each complete or not there at all. The bytes on disk are
// described in docs/checkpoint_format.md; save.h writes them.
//
//   absl::StatusOr<StoredStep> latest = FindLatest("out/checkpoint");        // NotFound: start from the beginning
//   TITAN_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenCheckpoint(latest->path));
//   TITAN_ASSIGN_OR_RETURN(at::Tensor wq, checkpoint.Load("model.layers.0.attention.wq.weight"));
//   ...
//   TITAN_RETURN_IF_ERROR(PruneCheckpoints("out/checkpoint", /*keep_latest_k=*/10));

#ifndef TITAN_CHECKPOINT_STORE_H_
#define TITAN_CHECKPOINT_STORE_H_

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/checkpoint/index.h"
#include "titan/checkpoint/safetensors.h"
#include "titan/checkpoint/tensors.h"

namespace titan {

struct StoredStep {
  int64_t step = 0;
  std::string path;  // the step-N folder
};

// The complete checkpoints in `dir`, oldest step first; none if there is no such folder. Names and commitment only:
// OpenCheckpoint and Checkpoint::Verify look inside.
absl::StatusOr<std::vector<StoredStep>> ListCheckpoints(const std::string& dir);

// The last of ListCheckpoints. NotFound if there is none.
absl::StatusOr<StoredStep> FindLatest(const std::string& dir);

// Deletes all but the newest `keep_latest_k` checkpoints (0: keeps all), and incomplete ones older than the newest.
// Steps after `last_step` are left alone and do not count: a run that began again from an earlier one has not come to
// them.
absl::Status PruneCheckpoints(const std::string& dir, int64_t keep_latest_k,
                              int64_t last_step = std::numeric_limits<int64_t>::max());

// One complete checkpoint, with its text files read; a shard is mapped when the first of its tensors is asked for.
// Copies share what is mapped. Not thread-safe.
class Checkpoint {
 public:
  int64_t step() const { return index_->step; }
  const std::string& state() const { return state_; }
  const std::string& experiment() const { return experiment_; }
  // What there is, and where: names, dtypes, shapes, pieces.
  const CheckpointIndex& index() const { return *index_; }

  // The whole tensor, put together from its pieces, on the CPU, in memory of its own. NotFound; DataLoss if its
  // checksum does not match, with file and tensor.
  absl::StatusOr<at::Tensor> Load(const std::string& name) const;

  // Some boxes of a tensor, one after the other, each row by row: elements of `out`, which is flat, of any floating
  // dtype, on the CPU. Of the files only the pieces that have some of these elements are touched. `shape` is what the
  // reader takes the tensor's for: InvalidArgument if it is another. Errors as Load.
  absl::Status Read(const std::string& name, const std::vector<int64_t>& shape, const std::vector<Box>& boxes,
                    const at::Tensor& out) const;

  // Reads everything and compares checksums; all damage, one per line.
  absl::Status Verify() const;

 private:
  friend absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path);

  using Shards = std::map<std::string, std::shared_ptr<const SafetensorsFile>>;  // by file name

  // The shard, mapped and its header checked.
  absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Shard(const std::string& file) const;
  // The bytes of a piece, checked.
  absl::StatusOr<at::Tensor> LoadPiece(const std::string& name, const CheckpointIndex::Piece& piece) const;

  std::string path_;
  std::string state_;
  std::string experiment_;
  std::shared_ptr<const CheckpointIndex> index_;
  std::shared_ptr<Shards> shards_;  // those that were asked for
};

// NotFound without the folder, FailedPrecondition if it was never committed, DataLoss / InvalidArgument if a file is
// missing or of another size, or a text file is damaged. Load, Read and Verify check the shards' bytes.
absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_STORE_H_
