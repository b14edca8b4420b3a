// What a checkpoint of a run holds besides tensors, and the way in and out of the store.
//
//   TITAN_RETURN_IF_ERROR(SaveProgress(folder, experiment, trainer, loader, tokens_seen));
//   TITAN_ASSIGN_OR_RETURN(const int64_t tokens_seen, RestoreProgress(path, trainer, loader));
//
// state.json: {"data": <the loader's state>, "lr": 0.0003, "rng": {"seed": 42}, "step": 500, "tokens_seen": 1024000}.
// `lr` is that of the next step, for people; it follows from the step. The only random numbers of a run are those of
// the initial parameters and of the data's order, both functions of a seed, so that `rng` is that seed.

#ifndef TITAN_TRAIN_PROGRESS_H_
#define TITAN_TRAIN_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "titan/data/loader.h"
#include "titan/train/trainer.h"

namespace titan {

// Writes `folder`/step-N and returns its path.
absl::StatusOr<std::string> SaveProgress(const std::string& folder, const config::Experiment& experiment,
                                         const Trainer& trainer, const Loader& loader, int64_t tokens_seen);

// Puts trainer and loader where they were when `checkpoint` (a step-N folder) was saved; returns tokens_seen.
absl::StatusOr<int64_t> RestoreProgress(const std::string& checkpoint, Trainer& trainer, Loader& loader);

// Where parameters start when checkpoint.initial_load_path names a Hugging Face folder or a step-N folder of another
// run. InvalidArgument if its model is not the experiment's.
absl::StatusOr<Parameters::InitialValue> InitialValuesFrom(const std::string& path,
                                                           const config::Experiment& experiment);

}  // namespace titan

#endif  // TITAN_TRAIN_PROGRESS_H_
