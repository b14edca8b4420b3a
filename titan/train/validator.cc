#include "titan/train/validator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/base/with_context.h"
#include "titan/config/experiment.pb.h"
#include "titan/train/exit_code.h"

namespace titan {
namespace {

// An experiment whose training data are the validation data of `experiment`. Without validation.sources these are what
// data.sources hold out.
config::Experiment OfValidationData(const config::Experiment& experiment, int64_t rows) {
  config::Experiment result = experiment;
  const config::Validation& validation = experiment.validation();
  if (!validation.sources().empty()) *result.mutable_data()->mutable_sources() = validation.sources();
  result.mutable_data()->set_shuffle(false);
  result.mutable_data()->set_repeat(false);
  // Nothing but synthetic tokens depends on it now: those shall not be the ones that are trained on.
  result.mutable_data()->set_seed(experiment.data().seed() + 1);
  result.mutable_training()->set_seq_len(validation.seq_len());
  result.mutable_training()->set_global_batch_size(rows);
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Validator>> Validator::Create(const config::Experiment& experiment,
                                                             const DataFiles& files, const Mesh& mesh) {
  const config::Validation& validation = experiment.validation();
  const int64_t rows = validation.local_batch_size() * mesh.size({MeshAxis::kDpReplicate, MeshAxis::kDpShard});
  const bool reads_held_out = validation.sources().empty();
  absl::StatusOr<std::unique_ptr<Loader>> loader =
      Loader::Create(OfValidationData(experiment, rows), files,
                     {.pads = true, .reads_held_out = reads_held_out, .thread_name = "validation loader"});
  if (!loader.ok()) return WithContext(reads_held_out ? "validation" : "validation.sources", loader.status());
  return std::unique_ptr<Validator>(
      new Validator(*std::move(loader), validation.freq(), validation.steps(), experiment.training().steps()));
}

absl::StatusOr<ValidationLoss> Validator::Run(Trainer& trainer) {
  ValidationLoss result;
  double sum = 0;
  for (int64_t batches = 0; batches != max_batches_; ++batches) {
    const absl::StatusOr<Batch> batch = loader_->Next();
    if (absl::IsOutOfRange(batch.status())) break;
    if (absl::IsResourceExhausted(batch.status())) return WithExitCode(batch.status(), ExitCode::kOutOfMemory);
    TITAN_RETURN_IF_ERROR(batch.status());
    TITAN_ASSIGN_OR_RETURN(const double batch_sum, trainer.LossSum(*batch));
    sum += batch_sum;
    result.tokens += batch->valid_tokens;
  }
  // The next validation's first batches are made while training goes on.
  TITAN_RETURN_IF_ERROR(loader_->Restore(beginning_));
  result.loss = sum / static_cast<double>(std::max<int64_t>(result.tokens, 1));
  return result;
}

}  // namespace titan
