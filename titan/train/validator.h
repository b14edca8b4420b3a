// The loss on data that is not trained on: validation.sources, or where there are none what data.sources hold out; the
// same tokens every time. Training does not notice.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Validator> validator, Validator::Create(experiment, files, mesh));
//   if (validator->IsDue(trainer.step())) TITAN_ASSIGN_OR_RETURN(const ValidationLoss loss, validator->Run(trainer));

#ifndef TITAN_TRAIN_VALIDATOR_H_
#define TITAN_TRAIN_VALIDATOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "titan/data/loader.h"
#include "titan/plan/mesh.h"
#include "titan/train/trainer.h"

namespace titan {

struct ValidationLoss {
  double loss = 0;     // sum of the token cross-entropies / labels, over all batches and ranks
  int64_t tokens = 0;  // labels
};

class Validator {
 public:
  // The sources are read in the order of their files, without shuffling, in batches of validation.local_batch_size
  // rows for each rank of data parallelism. What is left at their end is padded, so that a validation of the whole set
  // sees every label once on any layout. Errors are the loader's.
  static absl::StatusOr<std::unique_ptr<Validator>> Create(const config::Experiment& experiment, const DataFiles& files,
                                                           const Mesh& mesh);

  // After step 1, every validation.freq-th and the last.
  bool IsDue(int64_t step) const { return step == 1 || step % freq_ == 0 || step == last_step_; }

  // Forward alone through validation.steps batches from the beginning, or all of them. Every rank calls it.
  absl::StatusOr<ValidationLoss> Run(Trainer& trainer);

 private:
  Validator(std::unique_ptr<Loader> loader, int64_t freq, int64_t max_batches, int64_t last_step)
      : loader_(std::move(loader)),
        beginning_(loader_->State()),
        freq_(freq),
        max_batches_(max_batches),
        last_step_(last_step) {}

  const std::unique_ptr<Loader> loader_;
  const std::string beginning_;  // of the loader
  const int64_t freq_;
  const int64_t max_batches_;  // -1: no limit
  const int64_t last_step_;
};

}  // namespace titan

#endif  // TITAN_TRAIN_VALIDATOR_H_
