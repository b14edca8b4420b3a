// A whole run: from the trainer's flags to the last metric. What is where in a run directory is in README.md.
//
//   const absl::Status status = RunTrainer(flags, {argv, argv + argc});
//   return static_cast<int>(ExitCodeOf(status));

#ifndef TITAN_TRAIN_RUN_H_
#define TITAN_TRAIN_RUN_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "titan/train/flags.h"

namespace titan {

// Trains until experiment.training.steps, or the end of the data, and says on standard output what it does. SIGTERM and
// SIGINT end it after the step that runs, with a checkpoint if those are enabled, as an error with
// ExitCode::kPreempted; a second signal kills the process. `command` goes into run.json.
absl::Status RunTrainer(const TrainerFlags& flags, const std::vector<std::string>& command);

}  // namespace titan

#endif  // TITAN_TRAIN_RUN_H_
