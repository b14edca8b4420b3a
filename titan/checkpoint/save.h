// Writing a checkpoint, by one process or by many together: each writes the pieces of tensors that it holds into a
// shard of its own, and the first one commits when it has seen that all are there. The bytes on disk are described in
// docs/checkpoint_format.md.
//
//   TITAN_ASSIGN_OR_RETURN(std::string path, SaveCheckpoint("out/checkpoint", contents));  // out/checkpoint/step-500
//
//   SaveTask task{.dir = "out/checkpoint", .step = 500, .id = <NewSaveId of rank 0>, .rank = 3, .world_size = 8};
//   if (task.rank == 0) TITAN_RETURN_IF_ERROR(PrepareSave(task));
//   TITAN_RETURN_IF_ERROR(WriteShard(task, pieces));                                        // on every rank
//   TITAN_ASSIGN_OR_RETURN(std::string path, CommitShards(task, state, experiment, {}));    // then on rank 0
//
// A process that dies, a machine that loses power or a full disk at any moment of saving leaves all earlier steps as
// they were, and nothing that could be taken for a checkpoint. The ranks meet in the file system alone, which all of
// them see: a thread of each may write while the processes compute and communicate.

#ifndef TITAN_CHECKPOINT_SAVE_H_
#define TITAN_CHECKPOINT_SAVE_H_

#include <ATen/core/Tensor.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/checkpoint/box.h"
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

// Writes `dir`/step-N and returns its path; it is durable then. Replaces a step N that is there already. On failure
// (ResourceExhausted: disk full) nothing of the step is left. Also removes what interrupted saves have left in `dir`.
// One process saves into a folder at a time.
absl::StatusOr<std::string> SaveCheckpoint(const std::string& dir, const CheckpointContents& contents);

// One save of one step, as one of the ranks that share it sees it.
struct SaveTask {
  std::string dir;
  int64_t step = 0;
  std::string id;  // NewSaveId() of rank 0: what another save has left is never taken for this one's
  int64_t rank = 0;
  int64_t world_size = 1;

  // The folder that is written to.
  std::string folder() const;
};

// 16 random hexadecimal digits.
std::string NewSaveId();

// A box of a tensor.
struct ShardPiece {
  std::string tensor;
  std::vector<int64_t> shape;  // of the whole tensor
  Box box;
  at::Tensor data;                    // the box's elements, row by row; on any device
  at::ScalarType dtype = at::kFloat;  // of the file
  // Gives `data` when it is written, if that is not defined.
  std::function<absl::StatusOr<at::Tensor>()> read = nullptr;
};

// Rank 0: removes what interrupted saves have left in the task's directory. Nobody may be at an earlier save any more.
absl::Status PrepareSave(const SaveTask& task);

// Writes this rank's shard, and then a part file that says what is in it; both are durable when it returns. On failure
// a note in the task's folder tells rank 0, if there is still room for it.
absl::Status WriteShard(const SaveTask& task, const std::vector<ShardPiece>& pieces);

// Tells rank 0 that this rank's shard will not come; on rank 0, removes what there is.
void AbandonShard(const SaveTask& task, const absl::Status& reason);

struct CommitOptions {
  // For the shards of other ranks. After that the save has failed.
  std::chrono::milliseconds time_limit = std::chrono::hours(1);
  // Set by another thread, for instance because a rank has died: missing shards are not waited for any longer.
  const std::atomic<bool>* cancelled = nullptr;
};

// Rank 0, after its own WriteShard: waits for all shards, writes the text files, commits, and returns the path of the
// step, which is durable then. `state` and `experiment` as in CheckpointContents. On failure nothing of the step is
// left; the error names the rank whose shard is missing, or what is wrong with it.
absl::StatusOr<std::string> CommitShards(const SaveTask& task, const std::string& state, const std::string& experiment,
                                         const CommitOptions& options);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_SAVE_H_
