#include "titan/train/trainer.h"

#include <ATen/Context.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/global_norm.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/model/init.h"
#include "titan/optim/grad_clip.h"
#include "titan/train/exit_code.h"
#include "titan/train/torch_errors.h"

namespace titan {

struct Trainer::Settings {
  Settings(const config::Experiment& experiment, const TrainerOptions& options)
      : device(options.device),
        base_lr(experiment.optimizer().lr()),
        max_norm(experiment.training().max_norm()),
        local_batch_size(experiment.training().local_batch_size()),
        schedule(experiment.lr_scheduler(), experiment.training().steps()) {}

  at::Device device;
  at::ScalarType compute_dtype = at::kFloat;
  double base_lr;
  double max_norm;
  int64_t local_batch_size;
  LrSchedule schedule;
  std::vector<bool> recompute;  // of each block
};

namespace {

// Bitwise mode costs speed: only operators without atomics, and cuBLAS with a workspace of its own per stream.
absl::Status SetDeterminism(const config::Experiment& experiment) {
  const bool bitwise = experiment.determinism().mode() == config::Determinism::MODE_BITWISE;
  at::globalContext().setDeterministicAlgorithms(bitwise, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);  // nothing here reads what it did not write
  at::globalContext().setBenchmarkCuDNN(false);
  // cuBLAS reads it when it starts, which has not happened yet.
  if (bitwise && setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/1) != 0) {
    return absl::InternalError("cannot set CUBLAS_WORKSPACE_CONFIG, which bitwise determinism needs");
  }
  return absl::OkStatus();
}

// Which blocks run forward a second time: all layers, or every n-th. The embedding and the head never gain by it.
absl::StatusOr<std::vector<bool>> RecomputedBlocks(const config::ActivationCheckpoint& config, const ModelSpec& spec) {
  int64_t every = 1;
  if (config.mode() == config::ActivationCheckpoint::MODE_SELECTIVE &&
      (!absl::SimpleAtoi(config.selective_ac_option(), &every) || every < 1)) {
    return absl::UnimplementedError(absl::StrCat("activation_checkpoint.selective_ac_option \"",
                                                 config.selective_ac_option(),
                                                 "\" is not supported yet; give a number n for every n-th layer"));
  }
  std::vector<bool> recompute;
  int64_t layer = 0;
  for (const BlockSpec& block : spec.blocks) {
    const bool counts = block.kind == BlockKind::kLayer && config.mode() != config::ActivationCheckpoint::MODE_NONE;
    recompute.push_back(counts && ++layer % every == 0);
  }
  return recompute;
}

// (rows, seq_len) int64 on `device`. The copy to a GPU is from pinned memory and is not waited for.
at::Tensor Upload(const std::vector<int64_t>& values, int64_t seq_len, at::Device device) {
  // from_blob takes a pointer that it may write through; nobody writes to a batch.
  const at::Tensor view = at::from_blob(const_cast<int64_t*>(values.data()),
                                        {static_cast<int64_t>(values.size()) / seq_len, seq_len}, at::kLong);
  if (device.is_cpu()) return view;
  return view.pin_memory().to(device, /*non_blocking=*/true);
}

absl::Status CheckBatch(const Batch& batch, int64_t local_batch_size) {
  const size_t size = static_cast<size_t>(batch.rows * batch.seq_len);
  if (batch.rows <= 0 || batch.rows % local_batch_size != 0) {
    return absl::InvalidArgumentError(absl::StrCat("a batch of ", batch.rows,
                                                   " rows cannot be cut into microbatches of ", local_batch_size,
                                                   " (training.local_batch_size)"));
  }
  if (batch.tokens.size() != size || batch.labels.size() != size || batch.positions.size() != size) {
    return absl::InvalidArgumentError(
        absl::StrCat("a batch of ", batch.rows, " rows of ", batch.seq_len, " tokens holds ", batch.tokens.size(),
                     " tokens, ", batch.labels.size(), " labels and ", batch.positions.size(), " positions"));
  }
  return absl::OkStatus();
}

}  // namespace

Trainer::Trainer(std::unique_ptr<Settings> settings) : settings_(std::move(settings)) {}
Trainer::~Trainer() = default;

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const config::Experiment& experiment,
                                                         const TrainerOptions& options) {
  TITAN_RETURN_IF_ERROR(SetDeterminism(experiment));
  auto trainer = std::unique_ptr<Trainer>(new Trainer(std::make_unique<Settings>(experiment, options)));
  TITAN_ASSIGN_OR_RETURN(trainer->model_, Model::Create(experiment.model()));
  const ModelSpec& spec = trainer->model_->spec();
  TITAN_ASSIGN_OR_RETURN(trainer->settings_->recompute, RecomputedBlocks(experiment.activation_checkpoint(), spec));

  const at::ScalarType master = options.fp64 ? at::kDouble : at::kFloat;
  const bool bfloat16 = experiment.training().mixed_precision_param() == config::Training::DTYPE_BFLOAT16;
  trainer->settings_->compute_dtype = bfloat16 && !options.fp64 ? at::kBFloat16 : master;
  const uint64_t seed = experiment.debug().seed();
  const Parameters::InitialValue drawn = [seed](const ParameterSpec& parameter) -> absl::StatusOr<at::Tensor> {
    return InitialValue(parameter, seed);
  };
  TITAN_RETURN_IF_ERROR(CatchTorchErrors("the allocation of parameters", [&]() -> absl::Status {
    TITAN_ASSIGN_OR_RETURN(
        trainer->parameters_,
        Parameters::Create(
            spec, {.device = options.device, .dtype = master, .compute_dtype = trainer->settings_->compute_dtype},
            options.initial_value ? options.initial_value : drawn));
    trainer->optimizer_ = std::make_unique<AdamW>(experiment.optimizer(), trainer->parameters_->masters());
    return absl::OkStatus();
  }));
  return trainer;
}

double Trainer::lr() const { return settings_->base_lr * settings_->schedule.Factor(step_); }

absl::StatusOr<StepResult> Trainer::Step(const Batch& batch) {
  TITAN_ASSIGN_OR_RETURN(const Gradients gradients, ComputeGradients(batch));
  const double used_lr = lr();
  TITAN_RETURN_IF_ERROR(Update(gradients));
  return StepResult{.step = step_,
                    .loss = gradients.loss,
                    .grad_norm = gradients.grad_norm,
                    .lr = used_lr,
                    .valid_tokens = gradients.valid_tokens};
}

absl::StatusOr<Gradients> Trainer::ComputeGradients(const Batch& batch) {
  TITAN_RETURN_IF_ERROR(CheckBatch(batch, settings_->local_batch_size));
  Gradients gradients;
  gradients.valid_tokens = std::count_if(batch.labels.begin(), batch.labels.end(), [](int64_t l) { return l != -100; });
  const double divisor = static_cast<double>(std::max<int64_t>(gradients.valid_tokens, 1));
  TITAN_RETURN_IF_ERROR(CatchTorchErrors(absl::StrCat("step ", step_ + 1), [&]() -> absl::Status {
    parameters_->ClearGradients();
    at::Tensor loss_sum = at::zeros({}, at::TensorOptions(settings_->device).dtype(at::kDouble));
    Accumulate(batch, 1 / divisor, loss_sum);
    // The one place of a step that waits for the device.
    const at::Tensor values = at::stack({loss_sum, GlobalNorm(parameters_->gradients())}).cpu();
    gradients.loss = values.const_data_ptr<double>()[0] / divisor;
    gradients.grad_norm = values.const_data_ptr<double>()[1];
    return absl::OkStatus();
  }));
  if (!std::isfinite(gradients.loss) || !std::isfinite(gradients.grad_norm)) return NonFiniteError(gradients);
  return gradients;
}

// Forward and backward of each microbatch; adds the sums of their cross-entropies to `loss_sum`.
void Trainer::Accumulate(const Batch& batch, double gradient_scale, at::Tensor& loss_sum) {
  const at::Tensor tokens = Upload(batch.tokens, batch.seq_len, settings_->device);        // (rows, S)
  const at::Tensor labels = Upload(batch.labels, batch.seq_len, settings_->device);        // (rows, S)
  const at::Tensor positions = Upload(batch.positions, batch.seq_len, settings_->device);  // (rows, S)
  const int64_t size = settings_->local_batch_size;
  for (int64_t row = 0; row < batch.rows; row += size) {
    const Microbatch microbatch{
        .tokens = tokens.narrow(0, row, size),
        .labels = labels.narrow(0, row, size),
        .context = model_->MakeContext(positions.narrow(0, row, size), settings_->compute_dtype)};
    loss_sum.add_(ForwardBackward(*model_, *parameters_, microbatch, gradient_scale, settings_->recompute));
  }
}

absl::Status Trainer::NonFiniteError(const Gradients& gradients) const {
  const auto bad = FirstNonFinite(parameters_->gradients());
  const std::string where = bad.has_value()
                                ? absl::StrCat("the first bad gradient is that of ", parameters_->names()[*bad])
                                : std::string("every gradient is finite");
  return WithExitCode(
      absl::DataLossError(absl::StrCat(
          "step ", step_ + 1, ", rank 0: loss ", gradients.loss, ", gradient norm ", gradients.grad_norm, "; ", where,
          ". Stopped before the optimizer's step, so the parameters are those after step ", step_,
          ". A lower optimizer.lr or a longer lr_scheduler.warmup_steps usually helps; look at this step's data, "
          "too.")),
      ExitCode::kNonFinite);
}

absl::Status Trainer::Update(const Gradients& gradients) {
  TITAN_RETURN_IF_ERROR(CatchTorchErrors(absl::StrCat("the optimizer's step ", step_ + 1), [&]() -> absl::Status {
    optimizer_->Update(parameters_->gradients(), lr(), ClipCoefficient(gradients.grad_norm, settings_->max_norm));
    parameters_->ClearGradients();
    parameters_->FinishUpdate();
    return absl::OkStatus();
  }));
  ++step_;
  return absl::OkStatus();
}

std::vector<std::pair<std::string, at::Tensor>> Trainer::State() const {
  const std::vector<std::string>& names = parameters_->names();
  std::vector<std::pair<std::string, at::Tensor>> state;
  const auto add = [&](const char* prefix, const std::vector<at::Tensor>& tensors) {
    for (size_t i = 0; i < names.size(); ++i) state.emplace_back(absl::StrCat(prefix, names[i]), tensors[i]);
  };
  add("model.", parameters_->masters());
  add("optimizer.exp_avg.", optimizer_->exp_avg());
  add("optimizer.exp_avg_sq.", optimizer_->exp_avg_sq());
  return state;
}

absl::Status Trainer::Restore(int64_t step,
                              const std::function<absl::StatusOr<at::Tensor>(const std::string& name)>& load) {
  return CatchTorchErrors("restoring a checkpoint", [&]() -> absl::Status {
    for (const auto& [name, tensor] : State()) {
      TITAN_ASSIGN_OR_RETURN(const at::Tensor value, load(name));
      if (value.sizes() != tensor.sizes()) {
        return absl::InvalidArgumentError(
            absl::StrCat("the checkpoint's ", name, " has another shape than the model's"));
      }
      tensor.copy_(value);
    }
    parameters_->FinishUpdate();
    step_ = step;
    optimizer_->set_num_updates(step);
    return absl::OkStatus();
  });
}

}  // namespace titan
