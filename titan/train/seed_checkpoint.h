// A seed checkpoint: step 0 of a run, which is the initial parameters and nothing else. Whatever layout begins from it
// begins from the same bits; so it does without, because initial values depend on debug.seed and a parameter's name
// alone. It is for who wants the file: to keep it, to look into it, or to train it elsewhere.
//
//   if (experiment.checkpoint().create_seed_checkpoint()) return CreateSeedCheckpoint(flags, experiment);

#ifndef TITAN_TRAIN_SEED_CHECKPOINT_H_
#define TITAN_TRAIN_SEED_CHECKPOINT_H_

#include "absl/status/status.h"
#include "titan/train/flags.h"

namespace titan::config {
class Experiment;
}

namespace titan {

// Writes --out/<checkpoint.folder>/step-0 and says how to begin from it; or with --dry_run, what would be written. One
// process does it, on the CPU, with 4 bytes of memory for each parameter, whatever the layout. The values are drawn, or
// those of checkpoint.initial_load_path. InvalidArgument for a directory that holds a run, or for one rank of several.
absl::Status CreateSeedCheckpoint(const TrainerFlags& flags, const config::Experiment& experiment);

}  // namespace titan

#endif  // TITAN_TRAIN_SEED_CHECKPOINT_H_
