// One training step: a global batch in, updated parameters out. Nothing here reads or writes files; run.h does.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Trainer> trainer, Trainer::Create(experiment, {.device = at::kCPU}));
//   TITAN_ASSIGN_OR_RETURN(const Batch batch, loader->Next());
//   TITAN_ASSIGN_OR_RETURN(const StepResult result, trainer->Step(batch));  // result.loss, result.grad_norm, ...
//
// A step is ComputeGradients, then Update. Whoever wants to look at or spoil what lies between calls the two.

#ifndef TITAN_TRAIN_TRAINER_H_
#define TITAN_TRAIN_TRAINER_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/data/loader.h"
#include "titan/model/model.h"
#include "titan/optim/adamw.h"
#include "titan/optim/lr_schedule.h"
#include "titan/train/parameters.h"

namespace titan {

struct TrainerOptions {
  at::Device device = at::kCPU;
  // Computes everything in fp64, masters and optimizer state too, whatever the experiment says: for comparison with
  // references.
  bool fp64 = false;
  // Where the parameters start. Unset: drawn by debug.seed.
  Parameters::InitialValue initial_value = nullptr;
};

// What a step learned before it changed anything.
struct Gradients {
  double loss = 0;           // sum of token cross-entropies / valid tokens, over all microbatches
  double grad_norm = 0;      // global 2-norm, before clipping
  int64_t valid_tokens = 0;  // labels that are not -100
};

struct StepResult {
  int64_t step = 0;  // 1 for the first
  double loss = 0;
  double grad_norm = 0;
  double lr = 0;  // that this step used
  int64_t valid_tokens = 0;
};

class Trainer {
 public:
  // Sets LibTorch's global determinism by experiment.determinism. `experiment` must have passed the strict reader.
  // Unimplemented for what one process on one device cannot do.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const config::Experiment& experiment,
                                                         const TrainerOptions& options);
  ~Trainer();

  // Steps done so far.
  int64_t step() const { return step_; }
  // Of the next step.
  double lr() const;

  absl::StatusOr<StepResult> Step(const Batch& batch);

  // Forward and backward of all microbatches (local_batch_size rows each) of the global batch. Valid tokens are counted
  // from batch.labels. A loss or a gradient that is not finite is an error with ExitCode::kNonFinite that names step,
  // rank and the first bad parameter; the parameters are as they were.
  absl::StatusOr<Gradients> ComputeGradients(const Batch& batch);
  // Clips and applies the gradients of the last ComputeGradients, and counts the step.
  absl::Status Update(const Gradients& gradients);

  const Model& model() const { return *model_; }
  const Parameters& parameters() const { return *parameters_; }

  // All tensors that a checkpoint holds, by name: "model.<parameter>", "optimizer.exp_avg.<parameter>",
  // "optimizer.exp_avg_sq.<parameter>". Views of the live tensors.
  std::vector<std::pair<std::string, at::Tensor>> State() const;
  // Continues after `step` with the tensors that `load` returns for State()'s names.
  absl::Status Restore(int64_t step, const std::function<absl::StatusOr<at::Tensor>(const std::string& name)>& load);

 private:
  struct Settings;

  explicit Trainer(std::unique_ptr<Settings> settings);

  void Accumulate(const Batch& batch, double gradient_scale, at::Tensor& loss_sum);
  absl::Status NonFiniteError(const Gradients& gradients) const;

  std::unique_ptr<Settings> settings_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Parameters> parameters_;
  std::unique_ptr<AdamW> optimizer_;
  int64_t step_ = 0;
};

}  // namespace titan

#endif  // TITAN_TRAIN_TRAINER_H_
