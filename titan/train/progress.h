// What a checkpoint of a run holds besides tensors, and the way back out of the store.
//
//   contents.state = ProgressState(experiment, run, trainer, loader, tokens_seen, /*model_only=*/false);
//   TITAN_ASSIGN_OR_RETURN(const RestoredProgress restored, RestoreProgress(path, experiment, trainer, loader));
//
// state.json: {"data": <the loader's state>, "lr": 0.0003, "rng": {"seed": 42}, "step": 500, "tokens_seen": 1024000,
// "run_id": "0f3c...", "bundle": "0f3c...", "model_only": false, "schedule_start": 0, "optimizer_start": 0}. `lr` is
// that of the next step, for people; it follows from the step and schedule_start. The only random numbers of a run are
// those of the initial parameters and of the data's order, both functions of a seed, so that `rng` is that seed.

#ifndef TITAN_TRAIN_PROGRESS_H_
#define TITAN_TRAIN_PROGRESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/data/loader.h"
#include "titan/train/trainer.h"

namespace titan {

// What a run is known by: see RunInputs.
struct RunIdentity {
  std::string run_id;
  std::string bundle;  // the bundle's digest
};

// The text of state.json. `model_only`: the checkpoint has no optimizer state.
std::string ProgressState(const config::Experiment& experiment, const RunIdentity& run, const Trainer& trainer,
                          const Loader& loader, int64_t tokens_seen, bool model_only);

struct RestoredProgress {
  int64_t tokens_seen = 0;
  bool model_only = false;
  std::string run_id;                 // of the run that has saved it; empty if that is not recorded
  std::string experiment;             // its config::Experiment, serialized
  std::vector<std::string> left_out;  // as checkpoint.exclude_from_loading says
};

// Puts trainer and loader where they were when `checkpoint` (a step-N folder) was saved, by a run of any layout; reads
// the part of it that this rank holds. What checkpoint.exclude_from_loading names begins anew if another run than
// `run_id` has saved it; what a run has saved itself it restores as it was. InvalidArgument if there is no optimizer
// state, though steps are left to be done and it is not left out.
absl::StatusOr<RestoredProgress> RestoreProgress(const std::string& checkpoint, const config::Experiment& experiment,
                                                 const std::string& run_id, Trainer& trainer, Loader& loader);

// Ok if the run may go on from `checkpoint`: it was saved by the same run id, from the same experiment. Else
// InvalidArgument, which says in what they differ, and how to go on all the same.
absl::Status CheckSameRun(const std::string& checkpoint, const config::Experiment& experiment, const RunIdentity& run);

// Where parameters start when checkpoint.initial_load_path names a Hugging Face folder or a step-N folder of another
// run. InvalidArgument if its model is not the experiment's.
absl::StatusOr<Parameters::InitialValue> InitialValuesFrom(const std::string& path,
                                                           const config::Experiment& experiment);

}  // namespace titan

#endif  // TITAN_TRAIN_PROGRESS_H_
