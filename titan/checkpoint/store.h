// The checkpoints of a run: folders step-N below one folder, each complete or not there at all. The bytes on disk are
// described in docs/checkpoint_format.md.
//
//   TITAN_ASSIGN_OR_RETURN(std::string path, SaveCheckpoint("out/checkpoint", contents));  // out/checkpoint/step-500
//   TITAN_RETURN_IF_ERROR(PruneCheckpoints("out/checkpoint", /*keep_latest_k=*/10));
//   ...
//   absl::StatusOr<StoredStep> latest = FindLatest("out/checkpoint");        // NotFound: start from the beginning
//   TITAN_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenCheckpoint(latest->path));
//   TITAN_ASSIGN_OR_RETURN(at::Tensor wq, checkpoint.Load("model.layers.0.attention.wq.weight"));
//
// A process that dies, a machine that loses power or a full disk at any moment of saving leaves all earlier steps as
// they were, and nothing that could be taken for a checkpoint. One process saves into a folder at a time.

#ifndef TITAN_CHECKPOINT_STORE_H_
#define TITAN_CHECKPOINT_STORE_H_

#include <cstdint>
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

struct CheckpointContents {
  int64_t step = 0;
  // "model.X", "optimizer.exp_avg.X", "optimizer.exp_avg_sq.X" for each parameter X, on any device.
  NamedTensors tensors;
  // A JSON object, opaque to the store: data position, learning rate, random generators, ...
  std::string state;
  // The canonical bytes of the Experiment, so that the weights can be used without the run.
  std::string experiment;
};

struct StoredStep {
  int64_t step = 0;
  std::string path;  // the step-N folder
};

// Writes `dir`/step-N and returns its path; it is durable then. Replaces a step N that is there already. On failure
// (ResourceExhausted: disk full) nothing of the step is left. Also removes what interrupted saves have left in `dir`.
absl::StatusOr<std::string> SaveCheckpoint(const std::string& dir, const CheckpointContents& contents);

// The complete checkpoints in `dir`, oldest step first; none if there is no such folder. Names and commitment only:
// OpenCheckpoint and Checkpoint::Verify look inside.
absl::StatusOr<std::vector<StoredStep>> ListCheckpoints(const std::string& dir);

// The last of ListCheckpoints. NotFound if there is none.
absl::StatusOr<StoredStep> FindLatest(const std::string& dir);

// Deletes all but the newest `keep_latest_k` checkpoints (0: keeps all), and incomplete ones older than the newest.
absl::Status PruneCheckpoints(const std::string& dir, int64_t keep_latest_k);

// One complete checkpoint, with its text files read and its shards mapped.
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

  // Reads everything and compares checksums; all damage, one per line.
  absl::Status Verify() const;

 private:
  friend absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path);

  // The bytes of a piece, checked.
  absl::StatusOr<at::Tensor> LoadPiece(const std::string& name, const CheckpointIndex::Piece& piece) const;

  std::string path_;
  std::string state_;
  std::string experiment_;
  std::shared_ptr<const CheckpointIndex> index_;
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> shards_;  // by file name
};

// NotFound without the folder, FailedPrecondition if it was never committed, DataLoss / InvalidArgument if a file is
// missing, of another size, or damaged. Of tensor data only the extent is checked; Load and Verify check the bytes.
absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_STORE_H_
