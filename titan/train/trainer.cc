#include "titan/train/trainer.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "absl/strings/str_cat.h"
#include "kernels/global_norm.h"
#include "titan/base/span.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/model/init.h"
#include "titan/model/precision.h"
#include "titan/optim/grad_clip.h"
#include "titan/parallel/mesh_parallelism.h"
#include "titan/train/activation_plan.h"
#include "titan/train/exit_code.h"
#include "titan/train/torch_errors.h"

namespace titan {

struct Trainer::Settings {
  Settings(const config::Experiment& experiment, const TrainerOptions& options)
      : device(options.device),
        base_lr(experiment.optimizer().lr()),
        max_norm(experiment.training().max_norm()),
        local_batch_size(experiment.training().local_batch_size()),
        microbatch_rows(experiment.training().local_batch_size()),
        schedule(experiment.lr_scheduler(), experiment.training().steps()) {}

  at::Device device;
  at::ScalarType compute_dtype = at::kFloat;
  double base_lr;
  double max_norm;
  int64_t local_batch_size;
  int64_t microbatch_rows;  // smaller than local_batch_size in a pipeline
  LrSchedule schedule;
  std::vector<Recompute> recompute;            // of each block
  std::unique_ptr<ActivationOffload> offload;  // with activation_checkpoint.offload_layers
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

// A copy, (rows, seq_len) int64 on `device`. That to a GPU is from pinned memory and is not waited for.
at::Tensor Upload(const std::vector<int64_t>& values, int64_t seq_len, at::Device device) {
  // from_blob takes a pointer that it may write through; nobody writes to a batch.
  const at::Tensor view = at::from_blob(const_cast<int64_t*>(values.data()),
                                        {static_cast<int64_t>(values.size()) / seq_len, seq_len}, at::kLong);
  if (device.is_cpu()) return view.clone();
  return view.pin_memory().to(device, /*non_blocking=*/true);
}

absl::Status CheckBatch(const Batch& batch, int64_t rows_per_round) {
  const size_t size = static_cast<size_t>(batch.rows * batch.seq_len);
  if (batch.rows <= 0 || batch.rows % rows_per_round != 0) {
    return absl::InvalidArgumentError(absl::StrCat("a batch of ", batch.rows, " rows cannot be cut into rounds of ",
                                                   rows_per_round,
                                                   " (training.local_batch_size, in validation the rows of a "
                                                   "microbatch, times the ranks of data parallelism)"));
  }
  if (batch.tokens.size() != size || batch.labels.size() != size || batch.positions.size() != size) {
    return absl::InvalidArgumentError(
        absl::StrCat("a batch of ", batch.rows, " rows of ", batch.seq_len, " tokens holds ", batch.tokens.size(),
                     " tokens, ", batch.labels.size(), " labels and ", batch.positions.size(), " positions"));
  }
  return absl::OkStatus();
}

// Of how many ranks, which each take other rows.
int64_t DataParallelSize(const Mesh& mesh) { return mesh.size({MeshAxis::kDpReplicate, MeshAxis::kDpShard}); }

bool ReshardsAfterForward(const config::Parallelism& parallelism) {
  switch (parallelism.fsdp_reshard_after_forward()) {
    case config::Parallelism::RESHARD_AFTER_FORWARD_ALWAYS:
      return true;
    case config::Parallelism::RESHARD_AFTER_FORWARD_NEVER:
      return false;
    default:  // the microbatches of a pipeline would gather everything again and again
      return parallelism.pipeline_parallel_degree() == 1;
  }
}

// Of each parameter of each block: whether it travels in float8. Empty: none does.
std::vector<std::vector<bool>> TravelInFloat8(const config::Quantize& quantize, const ModelSpec& spec) {
  std::vector<std::vector<bool>> result;
  if (!quantize.linear().float8().enable_fsdp_float8_all_gather()) return result;
  for (const BlockSpec& block : spec.blocks) {
    std::vector<bool>& parameters = result.emplace_back(block.parameters.size());
    if (block.kind != BlockKind::kLayer) continue;
    const std::vector<LinearPrecision> precisions = PrecisionsOf(block, quantize);
    for (size_t i = 0; i < precisions.size(); ++i) parameters[i] = precisions[i] == LinearPrecision::kFloat8Tensorwise;
  }
  return result;
}

ContextParallelMethod ContextParallelMethodOf(const config::Parallelism& parallelism) {
  switch (parallelism.context_parallel_rotate_method()) {
    case config::Parallelism::CONTEXT_PARALLEL_ROTATE_METHOD_ALLTOALL:
      return ContextParallelMethod::kAllToAll;
    case config::Parallelism::CONTEXT_PARALLEL_ROTATE_METHOD_ULYSSES:
      return ContextParallelMethod::kUlysses;
    default:
      return ContextParallelMethod::kAllGather;
  }
}

ContextParallelOptions ContextParallelOptionsOf(const config::Parallelism& parallelism) {
  return {.method = ContextParallelMethodOf(parallelism),
          .head_tail = parallelism.context_parallel_load_balancer() ==
                       config::Parallelism::CONTEXT_PARALLEL_LOAD_BALANCER_HEADTAIL};
}

TensorParallelOptions TensorParallelOptionsOf(const config::Parallelism& parallelism) {
  return {.sequence_parallel = parallelism.enable_sequence_parallel(),
          .overlaps = parallelism.enable_async_tensor_parallel(),
          .loss_parallel = !parallelism.disable_loss_parallel()};
}

// What the mesh asks of the shapes. Rules that need no world size are titan/config's.
absl::Status CheckLayout(const config::Experiment& experiment, const Mesh& mesh) {
  const int64_t cp = mesh.size(MeshAxis::kCp), tp = mesh.size(MeshAxis::kTp);
  const int64_t pieces = cp == 1 ? 1 : (ContextParallelOptionsOf(experiment.parallelism()).head_tail ? 2 * cp : cp);
  const int64_t seq_len = experiment.training().seq_len();
  if (seq_len % pieces != 0) {
    return absl::InvalidArgumentError(absl::StrCat("training.seq_len: ", seq_len, " is not divisible by ", pieces,
                                                   ", the pieces that context_parallel_degree ", cp,
                                                   " cuts a sequence into; choose a multiple of ", pieces));
  }
  const int64_t rows = mesh.size(MeshAxis::kPp) > 1 ? experiment.parallelism().pipeline_parallel_microbatch_size()
                                                    : experiment.training().local_batch_size();
  if (experiment.parallelism().enable_sequence_parallel() && rows * seq_len / cp % tp != 0) {
    return absl::InvalidArgumentError(absl::StrCat("parallelism.tensor_parallel_degree: ", tp, " does not divide the ",
                                                   rows * seq_len / cp,
                                                   " tokens of a microbatch on one rank, which sequence parallelism "
                                                   "shares out; change training.seq_len or training.local_batch_size"));
  }
  if (experiment.training().enable_cuda_graphs() && mesh.world_size() != mesh.size(MeshAxis::kDpReplicate)) {
    return absl::InvalidArgumentError(
        absl::StrCat("training.enable_cuda_graphs: what is recorded must not communicate, and ", mesh.Describe(),
                     " does; use data_parallel_replicate_degree alone, or leave it out"));
  }
  return absl::OkStatus();
}

}  // namespace

Trainer::Trainer(std::unique_ptr<Settings> settings) : settings_(std::move(settings)) {}
Trainer::~Trainer() = default;

absl::StatusOr<int64_t> RowsPerStep(const config::Training& training, const Mesh& mesh) {
  const int64_t round = training.local_batch_size() * DataParallelSize(mesh);
  if (training.global_batch_size() < 0) return round;
  if (training.global_batch_size() % round == 0) return training.global_batch_size();
  return absl::InvalidArgumentError(absl::StrCat(
      "training.global_batch_size: ", training.global_batch_size(), " is not a multiple of local_batch_size (",
      training.local_batch_size(), ") * dp_replicate (", mesh.size(MeshAxis::kDpReplicate), ") * dp_shard (",
      mesh.size(MeshAxis::kDpShard), ") = ", round, "; change one of them"));
}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const config::Experiment& experiment,
                                                         const TrainerOptions& options) {
  TITAN_RETURN_IF_ERROR(SetDeterminism(experiment));
  auto trainer = std::unique_ptr<Trainer>(new Trainer(std::make_unique<Settings>(experiment, options)));
  if (options.groups == nullptr) trainer->own_groups_ = ParallelGroups::Single();
  trainer->groups_ = options.groups != nullptr ? options.groups : trainer->own_groups_.get();
  const Mesh& mesh = trainer->groups_->mesh();
  TITAN_RETURN_IF_ERROR(CheckLayout(experiment, mesh));
  TITAN_ASSIGN_OR_RETURN(trainer->model_, Model::Create(experiment.model(), experiment.quantize()));
  const ModelSpec& spec = trainer->model_->spec();
  const ActivationPlan activations = PlanActivations(experiment.activation_checkpoint(), spec);
  trainer->settings_->recompute = activations.recompute;
  trainer->settings_->offload = activations.MakeOffload(options.device);
  trainer->parallelism_ =
      std::make_unique<MeshParallelism>(*trainer->groups_, TensorParallelOptionsOf(experiment.parallelism()),
                                        ContextParallelOptionsOf(experiment.parallelism()));

  const at::ScalarType master = options.fp64 ? at::kDouble : at::kFloat;
  const bool bfloat16 = experiment.training().mixed_precision_param() == config::Training::DTYPE_BFLOAT16;
  trainer->settings_->compute_dtype = bfloat16 && !options.fp64 ? at::kBFloat16 : master;
  Parameters::Options parameters{
      .device = options.device,
      .dtype = master,
      .compute_dtype = trainer->settings_->compute_dtype,
      .reshard_after_forward = ReshardsAfterForward(experiment.parallelism()),
      .reduce_every_microbatch = experiment.parallelism().fsdp_reduce_every_microbatch(),
      .sequence_parallel = experiment.parallelism().enable_sequence_parallel(),
      .offload = experiment.training().enable_cpu_offload(),
      .keep_gradient_memory = experiment.training().enable_cuda_graphs(),
      .float8_weights = TravelInFloat8(experiment.quantize(), spec),
      .owned_blocks = {},
  };
  PipelinePlan plan;
  if (mesh.size(MeshAxis::kPp) > 1) {
    trainer->settings_->microbatch_rows = experiment.parallelism().pipeline_parallel_microbatch_size();
    TITAN_ASSIGN_OR_RETURN(plan, PlanPipeline(experiment, spec, options.pipeline_schedule_csv));
    parameters.owned_blocks =
        Pipeline::OwnedBlocks(plan, trainer->groups_->coordinate(MeshAxis::kPp), spec.blocks.size());
  }
  const uint64_t seed = experiment.debug().seed();
  const Parameters::InitialValue drawn = [seed, device = options.device](const ParameterSpec& parameter) {
    return InitialValue(parameter, seed, device);
  };
  TITAN_RETURN_IF_ERROR(CatchTorchErrors("the allocation of parameters", [&]() -> absl::Status {
    TITAN_ASSIGN_OR_RETURN(
        trainer->parameters_,
        Parameters::Create(spec, *trainer->groups_, parameters, options.initial_value ? options.initial_value : drawn));
    TITAN_ASSIGN_OR_RETURN(
        trainer->optimizer_,
        Optimizer::Create(experiment.optimizer(), spec, *trainer->parameters_, *trainer->groups_,
                          {.device = options.device, .matrix_dtype = trainer->settings_->compute_dtype}));
    return absl::OkStatus();
  }));
  if (mesh.size(MeshAxis::kPp) > 1) TITAN_RETURN_IF_ERROR(trainer->CreatePipeline(std::move(plan)));
  if (experiment.training().enable_cuda_graphs()) {
    trainer->graphs_ = std::make_unique<MicrobatchGraphs>(*trainer->model_, *trainer->parameters_, options.device,
                                                          trainer->settings_->recompute);
  }
  return trainer;
}

absl::Status Trainer::CreatePipeline(PipelinePlan plan) {
  TITAN_ASSIGN_OR_RETURN(pipeline_, Pipeline::Create(*model_, *parameters_, *groups_, std::move(plan),
                                                     {.device = settings_->device,
                                                      .compute_dtype = settings_->compute_dtype,
                                                      .recompute = settings_->recompute}));
  return absl::OkStatus();
}

double Trainer::lr() const { return settings_->base_lr * settings_->schedule.Factor(step_ - schedule_start_); }

absl::StatusOr<StepResult> Trainer::Step(const Batch& batch, bool wants_to_stop,
                                         const std::function<void()>& before_update) {
  TITAN_ASSIGN_OR_RETURN(const Gradients gradients, ComputeGradients(batch, wants_to_stop));
  if (before_update) before_update();
  const double used_lr = lr();
  TITAN_RETURN_IF_ERROR(Update(gradients));
  return StepResult{.step = step_,
                    .loss = gradients.loss,
                    .grad_norm = gradients.grad_norm,
                    .lr = used_lr,
                    .valid_tokens = gradients.valid_tokens,
                    .someone_wants_to_stop = gradients.someone_wants_to_stop};
}

absl::StatusOr<Gradients> Trainer::ComputeGradients(const Batch& batch, bool wants_to_stop) {
  const int64_t dp_size = DataParallelSize(groups_->mesh());
  TITAN_RETURN_IF_ERROR(CheckBatch(batch, settings_->local_batch_size * dp_size));
  Gradients gradients;
  gradients.valid_tokens = std::count_if(batch.labels.begin(), batch.labels.end(), [](int64_t l) { return l != -100; });
  const double divisor = static_cast<double>(std::max<int64_t>(gradients.valid_tokens, 1));
  TITAN_RETURN_IF_ERROR(CatchTorchErrors(absl::StrCat("step ", step_ + 1), [&]() -> absl::Status {
    const Batch rows = LocalRows(batch);
    if (pipeline_ != nullptr && settings_->device.is_cuda() && !std::exchange(pipeline_rehearsed_, true)) {
      RehearsePipeline(rows, /*forward_only=*/false);
    }
    parameters_->BeginStep(rows.rows / settings_->microbatch_rows);
    at::Tensor loss_sum = at::zeros({}, at::TensorOptions(settings_->device).dtype(at::kDouble));
    Accumulate(rows, 1 / divisor, loss_sum);
    Span reducing("reduce gradients");
    parameters_->FinishGradients();
    reducing.End();
    // What several ranks know is counted once: the loss by the first rank of tensor parallelism.
    if (groups_->tp().rank() != 0) loss_sum.zero_();
    const at::Tensor stop = at::full({}, wants_to_stop ? 1.0 : 0.0, loss_sum.options());
    const at::Tensor sums = at::stack({loss_sum, LocalSumOfSquares().to(settings_->device), stop});  // (3)
    Span waiting("wait for device");
    groups_->world().AllReduce(sums).Wait();
    const at::Tensor values = sums.cpu();  // the one place of a step that waits for the device
    waiting.End();
    if (const absl::Status status = groups_->status(); !status.ok()) return WithExitCode(status, ExitCode::kPeerLost);
    gradients.loss = values.const_data_ptr<double>()[0] / divisor;
    gradients.grad_norm = std::sqrt(values.const_data_ptr<double>()[1]);
    gradients.someone_wants_to_stop = values.const_data_ptr<double>()[2] > 0;
    return absl::OkStatus();
  }));
  if (!std::isfinite(gradients.loss) || !std::isfinite(gradients.grad_norm)) return NonFiniteError(gradients);
  return gradients;
}

absl::StatusOr<double> Trainer::LossSum(const Batch& batch) {
  const int64_t rows_per_microbatch = pipeline_ != nullptr ? settings_->microbatch_rows : 1;
  TITAN_RETURN_IF_ERROR(CheckBatch(batch, rows_per_microbatch * DataParallelSize(groups_->mesh())));
  double sum = 0;
  TITAN_RETURN_IF_ERROR(CatchTorchErrors(absl::StrCat("the validation after step ", step_), [&]() -> absl::Status {
    const Batch rows = LocalRows(batch);
    at::Tensor loss_sum = at::zeros({}, at::TensorOptions(settings_->device).dtype(at::kDouble));
    if (pipeline_ == nullptr) {
      loss_sum.add_(ForwardLossSum(*model_, *parameters_, CutUp(rows, rows.rows).front()));
    } else {
      if (settings_->device.is_cuda() && !std::exchange(forward_rehearsed_, true)) {
        RehearsePipeline(rows, /*forward_only=*/true);
      }
      loss_sum.add_(pipeline_->ForwardLossSum(CutUp(rows, rows_per_microbatch)));
    }
    parameters_->FreeGathered();  // the next step gathers as if nothing had been
    if (groups_->tp().rank() != 0) loss_sum.zero_();
    groups_->world().AllReduce(loss_sum).Wait();
    const at::Tensor value = loss_sum.cpu();
    if (const absl::Status status = groups_->status(); !status.ok()) return WithExitCode(status, ExitCode::kPeerLost);
    sum = value.const_data_ptr<double>()[0];
    return absl::OkStatus();
  }));
  return sum;
}

// Of the gradients' elements that no other rank counts: a scalar in fp64.
at::Tensor Trainer::LocalSumOfSquares() const {
  const std::vector<at::Tensor>& all = parameters_->gradients();
  if (groups_->replicate().rank() != 0) return at::zeros({}, at::TensorOptions(settings_->device).dtype(at::kDouble));
  if (groups_->tp().rank() == 0) return GlobalNorm(all).square();
  std::vector<at::Tensor> split;
  for (size_t unit = 0; unit < all.size(); ++unit) {
    const int64_t replicated = parameters_->num_replicated(unit);
    split.push_back(all[unit].narrow(0, replicated, all[unit].numel() - replicated));
  }
  return GlobalNorm(split).square();
}

// Of a global batch, what this rank's coordinates of data parallelism give it.
Batch Trainer::LocalRows(const Batch& batch) const {
  const int64_t rows = batch.rows / DataParallelSize(groups_->mesh());
  const int64_t dp_rank = groups_->coordinate(MeshAxis::kDpReplicate) * groups_->mesh().size(MeshAxis::kDpShard) +
                          groups_->coordinate(MeshAxis::kDpShard);
  return batch.Slice(dp_rank * rows, (dp_rank + 1) * rows);
}

// The rows of a batch as microbatches, on the device, of context parallelism this rank's part.
std::vector<Microbatch> Trainer::CutUp(const Batch& batch, int64_t microbatch_rows) const {
  const at::Tensor tokens = Upload(batch.tokens, batch.seq_len, settings_->device);        // (rows, S)
  const at::Tensor labels = Upload(batch.labels, batch.seq_len, settings_->device);        // (rows, S)
  const at::Tensor positions = Upload(batch.positions, batch.seq_len, settings_->device);  // (rows, S)
  std::vector<Microbatch> microbatches;
  for (int64_t row = 0; row < batch.rows; row += microbatch_rows) {
    const ContextOptions options{
        .compute_dtype = settings_->compute_dtype,
        .document_starts = DocumentStarts(&batch.positions[row * batch.seq_len], microbatch_rows, batch.seq_len),
        .parallelism = parallelism_.get()};
    const auto part = [&](const at::Tensor& values) { return values.narrow(0, row, microbatch_rows); };
    microbatches.push_back({.tokens = parallelism_->LocalTokens(part(tokens)),
                            .labels = parallelism_->LocalTokens(part(labels)),
                            .context = model_->MakeContext(part(positions), options)});
  }
  return microbatches;
}

// With two microbatches, because the second one's gradients are added to the first one's: one whose rows are a document
// each, one whose rows are nothing but beginnings of documents. Each has kernels of its own.
void Trainer::RehearsePipeline(const Batch& batch, bool forward_only) {
  if (!forward_only) parameters_->BeginStep(2);
  for (const bool several_documents : {false, true}) {
    Batch rows = batch.Slice(0, settings_->microbatch_rows);
    for (size_t i = 0; i < rows.positions.size(); ++i) {
      rows.positions[i] = several_documents ? 0 : static_cast<int64_t>(i) % rows.seq_len;
    }
    pipeline_->Rehearse(CutUp(rows, settings_->microbatch_rows).front(), forward_only);
  }
  if (forward_only) return;
  parameters_->FinishGradients();
  parameters_->ClearGradients();
}

// Forward and backward of this rank's rows; adds the sums of their cross-entropies to `loss_sum`.
void Trainer::Accumulate(const Batch& batch, double gradient_scale, at::Tensor& loss_sum) {
  for (int64_t row = 0; row < batch.rows; row += settings_->local_batch_size) {
    const std::vector<Microbatch> microbatches =
        CutUp(batch.Slice(row, row + settings_->local_batch_size), settings_->microbatch_rows);
    if (pipeline_ != nullptr) {
      loss_sum.add_(pipeline_->ForwardBackward(microbatches, gradient_scale));
    } else if (graphs_ != nullptr) {
      loss_sum.add_(graphs_->ForwardBackward(microbatches.front(), gradient_scale));
    } else {
      loss_sum.add_(ForwardBackward(*model_, *parameters_, microbatches.front(), gradient_scale, settings_->recompute,
                                    settings_->offload.get()));
    }
  }
}

// Every rank comes here, and every rank says the same.
absl::Status Trainer::NonFiniteError(const Gradients& gradients) const {
  std::string where = "every gradient is finite";
  int64_t bad_rank = groups_->rank();
  TITAN_RETURN_IF_ERROR(CatchTorchErrors("the search for the bad gradient", [&]() -> absl::Status {
    std::vector<std::string> names;
    for (const BlockSpec& block : model_->spec().blocks) {
      for (const ParameterSpec& parameter : block.parameters) names.push_back(parameter.name);
    }
    const int64_t none = static_cast<int64_t>(names.size());
    std::vector<at::Tensor> views;
    for (const Parameters::Piece& piece : parameters_->pieces()) {
      views.push_back(parameters_->View(piece, parameters_->gradients()));
    }
    const auto found = FirstNonFinite(views);
    const int64_t mine = found.has_value()
                             ? std::find(names.begin(), names.end(), parameters_->pieces()[*found].name) - names.begin()
                             : none;
    const at::Tensor sent = at::full({1}, mine, at::TensorOptions(settings_->device).dtype(at::kLong));
    const at::Tensor all = at::empty({groups_->world().size()}, sent.options());
    groups_->world().AllGather(all, sent).Wait();
    const at::Tensor firsts = all.cpu();
    const int64_t* const first = firsts.const_data_ptr<int64_t>();
    const int64_t* const worst = std::min_element(first, first + firsts.numel());
    bad_rank = worst - first;
    if (*worst != none) where = absl::StrCat("the first bad gradient is that of ", names[*worst]);
    return absl::OkStatus();
  }));
  return WithExitCode(
      absl::DataLossError(absl::StrCat(
          "step ", step_ + 1, ", rank ", bad_rank, ": loss ", gradients.loss, ", gradient norm ", gradients.grad_norm,
          "; ", where, ". Stopped before the optimizer's step, so the parameters are those after step ", step_,
          ". A lower optimizer.lr or a longer lr_scheduler.warmup_steps usually helps; look at this step's data, "
          "too.")),
      ExitCode::kNonFinite);
}

absl::Status Trainer::Update(const Gradients& gradients) {
  const Span span("optimizer");
  TITAN_RETURN_IF_ERROR(CatchTorchErrors(absl::StrCat("the optimizer's step ", step_ + 1), [&]() -> absl::Status {
    optimizer_->Update(settings_->schedule.Factor(step_ - schedule_start_),
                       ClipCoefficient(gradients.grad_norm, settings_->max_norm));
    parameters_->ClearGradients();
    parameters_->FinishUpdate();
    return absl::OkStatus();
  }));
  ++step_;
  return absl::OkStatus();
}

std::vector<std::pair<std::string, const std::vector<at::Tensor>*>> Trainer::StateUnits() const {
  std::vector<std::pair<std::string, const std::vector<at::Tensor>*>> units = optimizer_->StateUnits();
  units.insert(units.begin(), {"model.", &parameters_->masters()});
  return units;
}

std::vector<std::pair<std::string, at::Tensor>> Trainer::State() const {
  const std::vector<Parameters::Piece>& pieces = parameters_->pieces();
  const bool alone = groups_->world().size() == 1;
  NamedTensors state;
  for (const auto& [prefix, units] : StateUnits()) {
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (!optimizer_->HasState(prefix, pieces[i].name)) continue;
      at::Tensor value = alone ? parameters_->View(pieces[i], *units) : parameters_->Gather(i, *units);
      if (value.defined()) state.emplace_back(absl::StrCat(prefix, pieces[i].name), std::move(value));
    }
  }
  if (pipeline_ != nullptr) CollectFromStages(state);
  return state;
}

Traffic Trainer::traffic() const {
  Traffic traffic = groups_->traffic();
  if (pipeline_ != nullptr) pipeline_->AddTraffic(traffic.at("pp"));
  return traffic;
}

// Sends the tensors of the other stages of the pipeline to rank 0, one stage after the other; those whose turn has not
// come wait at a barrier, which may take long. The tensors are there on the first rank of each stage, and those are the
// members of one pp group.
void Trainer::CollectFromStages(NamedTensors& state) const {
  Communicator& pp = groups_->pp();
  if (pp.ranks().front() != 0) return;
  if (pp.rank() != 0) {
    for (int64_t turn = 1; turn < pp.size(); ++turn) {
      pp.Barrier(kCheckpointTimeLimit);
      if (turn != pp.rank()) continue;
      for (const auto& [name, value] : state) {
        pp.Exchange({{.tensor = value.to(settings_->device), .peer = 0}}, {}).Wait();
      }
    }
    state.clear();
    return;
  }
  // In the order in which each stage has them.
  std::map<std::string, at::Tensor> all(state.begin(), state.end());
  for (int64_t peer = 1; peer < pp.size(); ++peer) {
    pp.Barrier(kCheckpointTimeLimit);
    const std::vector<bool> owned = pipeline_->OwnedBlocks(peer);
    for (const auto& [prefix, units] : StateUnits()) {
      for (size_t i = 0; i < owned.size(); ++i) {
        if (!owned[i]) continue;
        for (const ParameterSpec& parameter : model_->spec().blocks[i].parameters) {
          if (!optimizer_->HasState(prefix, parameter.name)) continue;
          const at::Tensor value = at::empty(parameter.shape, units->front().options().device(settings_->device));
          pp.Exchange({}, {{.tensor = value, .peer = peer}}).Wait();
          all[absl::StrCat(prefix, parameter.name)] = value.cpu();
        }
      }
    }
  }
  state.clear();
  for (const auto& [prefix, units] : StateUnits()) {
    for (const BlockSpec& block : model_->spec().blocks) {
      for (const ParameterSpec& parameter : block.parameters) {
        if (!optimizer_->HasState(prefix, parameter.name)) continue;
        const std::string name = absl::StrCat(prefix, parameter.name);
        state.emplace_back(name, all.at(name));
      }
    }
  }
}

std::vector<Trainer::StatePiece> Trainer::LocalState() const {
  std::vector<StatePiece> state;
  for (const auto& [prefix, units] : StateUnits()) {
    for (const Parameters::Piece& piece : parameters_->pieces()) {
      if (piece.begin == piece.end || !optimizer_->HasState(prefix, piece.name)) continue;
      const bool is_split = piece.split != TensorSplit::kReplicated;
      StatePiece& part = state.emplace_back();
      part.name = absl::StrCat(prefix, piece.name);
      part.shape = piece.shape;
      part.boxes = BoxesOfRange(piece.local_shape, piece.begin, piece.end);
      for (Box& box : part.boxes) {
        const int64_t dimension = is_split ? SplitDimension(piece.split) : 0;
        if (is_split) box.offsets[dimension] += groups_->tp().rank() * piece.local_shape[dimension];
      }
      part.shard = (*units)[piece.unit];
      part.begin = piece.offset;
      part.count = piece.end - piece.begin;
      // Replicas share the work, unit by unit.
      const int64_t writer = static_cast<int64_t>(piece.unit) % groups_->replicate().size();
      part.is_written_here = groups_->replicate().rank() == writer && (is_split || groups_->tp().rank() == 0);
    }
  }
  return state;
}

absl::Status Trainer::Restore(int64_t step,
                              const std::function<absl::Status(const StatePiece& piece, const at::Tensor& out)>& read) {
  return CatchTorchErrors("restoring a checkpoint", [&]() -> absl::Status {
    for (const StatePiece& piece : LocalState()) {
      const at::Tensor elements = piece.elements();
      const at::Tensor out =
          elements.is_cpu() ? elements : at::empty({piece.count}, elements.options().device(at::kCPU));
      TITAN_RETURN_IF_ERROR(read(piece, out));
      if (!elements.is_cpu()) elements.copy_(out);
    }
    parameters_->RoundMasters();
    parameters_->FinishUpdate();
    step_ = step;
    SetStarts(0, 0);
    return absl::OkStatus();
  });
}

void Trainer::SetStarts(int64_t schedule_start, int64_t optimizer_start) {
  schedule_start_ = schedule_start;
  optimizer_->set_num_updates(step_ - optimizer_start);
}

}  // namespace titan
