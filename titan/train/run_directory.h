// Where a run writes, and whether it may: earlier output is continued or left alone, never overwritten.

#ifndef TITAN_TRAIN_RUN_DIRECTORY_H_
#define TITAN_TRAIN_RUN_DIRECTORY_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "titan/train/flags.h"

namespace titan::config {
class Checkpoint;
}

namespace titan {

struct RunDirectory {
  std::string path = "";
  // The step-N folder to continue from; empty for a run from the beginning.
  std::string checkpoint = "";
  int64_t checkpoint_step = 0;
  // An earlier session left output but no checkpoint, and may be run again: MoveAside it first.
  bool has_aborted_session = false;
};

// outputs/<name>/<UTC time> below the directory where the user is.
std::string DefaultOutDirectory(const std::string& name);

// Whether `out` has the output of a run, or checkpoints in `checkpoint_folder`.
bool HoldsARun(const std::string& out, const std::string& checkpoint_folder);

// Decides what a run in `out` starts from; changes nothing. InvalidArgument says what to do when `out` holds a run that
// this one would not continue. A session that checkpoints but was killed before its first checkpoint is begun again
// when its run id is `run_id`.
absl::StatusOr<RunDirectory> PlanRunDirectory(const std::string& out, Resume resume, const config::Checkpoint& config,
                                              const std::string& run_id);

// Moves the output of the aborted session to `path`/aborted-N.
absl::Status MoveAside(const RunDirectory& directory, const config::Checkpoint& config);

}  // namespace titan

#endif  // TITAN_TRAIN_RUN_DIRECTORY_H_
