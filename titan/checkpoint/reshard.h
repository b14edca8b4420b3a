// A checkpoint again in another number of files: as many ranks would have written it, one file each. Runs need no such
// thing, for any layout reads any other's checkpoint; it is for file systems that want fewer or smaller files.
//
//   TITAN_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint("out/checkpoint/step-500"));
//   TITAN_ASSIGN_OR_RETURN(const std::string path, Reshard(checkpoint, "elsewhere", 8));  // elsewhere/step-500

#ifndef TITAN_CHECKPOINT_RESHARD_H_
#define TITAN_CHECKPOINT_RESHARD_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "titan/checkpoint/store.h"

namespace titan {

inline constexpr int64_t kMaxShards = 100'000;

// Writes `dir`/step-N and returns its path: every tensor, the state and the experiment of `checkpoint`, bit for bit.
// All tensors in the order of their names are one long row, and each file gets a run of it of the same size, to an
// element. One piece of a tensor is in memory at a time. AlreadyExists if there is a step N; as with any save, nothing
// of it is left on failure, and what interrupted saves have left in `dir` is removed.
absl::StatusOr<std::string> Reshard(const Checkpoint& checkpoint, const std::string& dir, int64_t shards);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_RESHARD_H_
