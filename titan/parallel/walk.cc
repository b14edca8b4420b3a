#include "titan/parallel/walk.h"

#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <utility>

#include "absl/log/check.h"
#include "kernels/function.h"
#include "titan/base/span.h"

namespace titan {
namespace {

// So many blocks before its backward a block's activations start back: later ones have freed their memory by then, and
// there is time for the way.
constexpr size_t kFetchAhead = 2;

// Fresh leaves over the same storage, so that a gradient ends here and never reaches into another block's graph.
at::Tensor Leaf(const at::Tensor& tensor) { return tensor.detach().requires_grad_(true); }

std::vector<at::Tensor> Leaves(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> leaves;
  leaves.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) leaves.push_back(Leaf(tensor));
  return leaves;
}

BatchContext ContextOf(size_t block, BlockParameters& parameters, const BatchContext& context) {
  BatchContext own = context;
  own.inverse_scales = parameters.InverseScales(block);
  return own;
}

// Output of a block: the loss sum for the model's last one, else (B, S, D).
at::Tensor RunBlock(const Model& model, size_t block, const at::Tensor& input, const at::Tensor& labels,
                    const std::vector<at::Tensor>& weights, const BatchContext& context) {
  const bool is_last = block + 1 == model.blocks().size();
  return is_last ? model.head().ForwardLossSum(input, labels, weights, context)
                 : model.blocks()[block]->Forward(input, weights, context);
}

}  // namespace

StageWalk::StageWalk(const Model& model, BlockParameters& parameters, size_t begin, size_t end,
                     const Microbatch& microbatch, const std::vector<Recompute>& recompute, bool split_backward,
                     ActivationOffload* offload)
    : model_(model),
      parameters_(parameters),
      begin_(begin),
      end_(end),
      microbatch_(microbatch),
      recompute_(recompute),
      split_backward_(split_backward),
      offload_(offload),
      weight_gradients_([this](const at::Tensor& weight) { return FindSum(weight); }),
      tapes_(end - begin) {
  CHECK_LT(begin, end);
  CHECK_LE(end, model.blocks().size());
  CHECK_EQ(recompute.size(), model.blocks().size());
  CHECK(offload == nullptr || !split_backward) << "weights' gradients read activations after the block's backward";
  for (size_t i = begin; i < end; ++i) {
    CHECK(offload == nullptr || !offload->Takes(i) || recompute[i] == Recompute::kNothing)
        << "block " << i << " is offloaded and runs again";
  }
  microbatch_.context.gradients = &weight_gradients_;
}

at::Tensor StageWalk::Run(size_t block, const at::Tensor& input, const std::vector<at::Tensor>& weights,
                          Keeper* keeper) const {
  BatchContext context = ContextOf(block, parameters_, microbatch_.context);
  context.keeper = keeper;
  return RunBlock(model_, block, input, microbatch_.labels, weights, context);
}

// Forward of a block with its graph recorded. `input` is not part of any graph. The loss adds to the gradients of its
// weights as it runs, which must be on the tape by then.
void StageWalk::Record(size_t block, const at::Tensor& input, Keeper* keeper) {
  Tape& tape = tapes_[block - begin_];
  tape.input = block == 0 ? input : Leaf(input);
  tape.weights = Leaves(parameters_.Weights(block));
  tape.is_summed.assign(tape.weights.size(), false);
  tape.output = Run(block, tape.input, tape.weights, keeper);
}

// The same, and its activations start for the host.
void StageWalk::RecordAndPutAway(size_t block, const at::Tensor& input) {
  std::vector<c10::Storage> saved;
  {
    const SavedScope scope(&saved);
    Record(block, input, /*keeper=*/nullptr);
  }
  Tape& tape = tapes_[block - begin_];
  std::vector<at::Tensor> others = ContextOf(block, parameters_, microbatch_.context).Tensors();
  others.insert(others.end(), tape.weights.begin(), tape.weights.end());
  others.insert(others.end(), {microbatch_.tokens, microbatch_.labels, tape.input, tape.output});
  tape.parcel = offload_->PutAway(saved, others);
}

// Those of a block whose backward is next are there, those of the blocks before it are on their way.
void StageWalk::FetchActivations(size_t block) {
  for (size_t i = 0; i <= std::min(kFetchAhead, block - begin_); ++i) {
    if (const auto& parcel = tapes_[block - i - begin_].parcel; parcel != nullptr) offload_->StartFetch(*parcel);
  }
  if (const auto parcel = std::move(tapes_[block - begin_].parcel); parcel != nullptr) offload_->FinishFetch(*parcel);
}

// The second forward of a block.
void StageWalk::RecordAgain(size_t block) {
  Tape& tape = tapes_[block - begin_];
  const std::unique_ptr<Keeper> keeper = std::move(tape.keeper);
  if (keeper != nullptr) keeper->Rewind();
  Record(block, at::Tensor(tape.input), keeper.get());
  CHECK(keeper == nullptr || keeper->empty()) << "block " << block << " applies other operators the second time";
}

at::Tensor StageWalk::Forward(const at::Tensor& input) {
  const Span span("forward");
  at::Tensor x = begin_ == 0 ? microbatch_.tokens : input;  // (B, S), then (B, S, D)
  for (size_t i = begin_; i < end_; ++i) {
    const std::vector<at::Tensor> weights = parameters_.Weights(i);
    if (i + 1 < end_) parameters_.Prefetch(i + 1);
    Tape& tape = tapes_[i - begin_];
    if (recompute_[i] == Recompute::kNothing) {
      const bool puts_away = offload_ != nullptr && offload_->Takes(i);
      puts_away ? RecordAndPutAway(i, x) : Record(i, x, /*keeper=*/nullptr);
      x = tape.output.detach();
    } else {
      c10::AutoGradMode no_grad(false);
      tape.input = x;
      if (recompute_[i] != Recompute::kAll) {
        tape.keeper = std::make_unique<Keeper>(/*keeps_every_product=*/recompute_[i] == Recompute::kElementwise);
      }
      x = Run(i, x, weights, tape.keeper.get());
    }
    if (offload_ != nullptr) offload_->BlockDone();
    // The head's backward is next.
    if (i + 1 < model_.blocks().size()) parameters_.Release(i);
  }
  return x;
}

// Of a tape's weight, whose gradient is about to be added there.
GradientSum* StageWalk::FindSum(const at::Tensor& weight) {
  for (size_t i = begin_; i < end_; ++i) {
    Tape& tape = tapes_[i - begin_];
    for (size_t j = 0; j < tape.weights.size(); ++j) {
      if (!tape.weights[j].is_same(weight)) continue;
      GradientSum* const sum = parameters_.SumOfGradients(i, j);
      tape.is_summed[j] = sum != nullptr;
      return sum;
    }
  }
  return nullptr;
}

void StageWalk::HandOnGradients(size_t block, Tape& tape) {
  std::vector<at::Tensor> gradients;
  gradients.reserve(tape.weights.size());
  for (size_t i = 0; i < tape.weights.size(); ++i) {
    const at::Tensor& gradient = tape.weights[i].grad();
    CHECK(gradient.defined() || tape.is_summed[i]) << "block " << block << " does not use parameter " << i;
    gradients.push_back(gradient);
  }
  tape.weights.clear();
  parameters_.AddGradients(block, std::move(gradients));
}

at::Tensor StageWalk::WalkBackward(at::Tensor gradient, bool defer_weights) {
  const Span span(defer_weights ? "backward of inputs" : "backward");
  for (size_t i = end_; i-- > begin_;) {
    Tape& tape = tapes_[i - begin_];
    parameters_.Weights(i);
    if (i > begin_) parameters_.Prefetch(i - 1);
    if (offload_ != nullptr) FetchActivations(i);
    if (!tape.output.defined()) RecordAgain(i);
    tape.output.backward(gradient);
    gradient = i == 0 ? at::Tensor() : tape.input.grad();
    tape.output.reset();
    tape.input.reset();
    if (offload_ != nullptr) offload_->BlockDone();
    if (!defer_weights) HandOnGradients(i, tape);
    parameters_.Release(i);
  }
  return gradient;
}

at::Tensor StageWalk::Backward(const at::Tensor& output_gradient) {
  return WalkBackward(output_gradient, /*defer_weights=*/false);
}

at::Tensor StageWalk::BackwardInput(const at::Tensor& output_gradient) {
  CHECK(split_backward_) << "the walk was made without split_backward";
  weight_gradients_.set_deferring(true);
  return WalkBackward(output_gradient, /*defer_weights=*/true);
}

void StageWalk::BackwardWeight() {
  const Span span("backward of weights");
  weight_gradients_.Run();
  for (size_t i = end_; i-- > begin_;) {
    HandOnGradients(i, tapes_[i - begin_]);
    parameters_.Release(i);  // only now may these have been the block's last gradients of the step
  }
}

at::Tensor ForwardBackward(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                           const at::Tensor& gradient_scale, const std::vector<Recompute>& recompute,
                           ActivationOffload* offload) {
  Microbatch with_gradient = microbatch;
  with_gradient.context.loss_gradient = gradient_scale;
  StageWalk walk(model, parameters, 0, model.blocks().size(), with_gradient, recompute, /*split_backward=*/false,
                 offload);
  const at::Tensor loss_sum = walk.Forward(at::Tensor());  // scalar
  walk.Backward(gradient_scale.to(loss_sum.scalar_type()));
  return loss_sum;
}

at::Tensor ForwardBackward(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                           double gradient_scale, const std::vector<Recompute>& recompute, ActivationOffload* offload) {
  const at::Tensor scale = at::full({}, gradient_scale, microbatch.tokens.options().dtype(at::kDouble));
  return ForwardBackward(model, parameters, microbatch, scale, recompute, offload);
}

at::Tensor ForwardStage(const Model& model, BlockParameters& parameters, size_t begin, size_t end,
                        const Microbatch& microbatch, const at::Tensor& input, std::vector<at::Tensor>* hidden) {
  const Span span("forward");
  c10::AutoGradMode no_grad(false);
  at::Tensor x = begin == 0 ? microbatch.tokens : input;  // (B, S), then (B, S, D)
  for (size_t i = begin; i < end; ++i) {
    const std::vector<at::Tensor> weights = parameters.Weights(i);
    if (i + 1 < end) parameters.Prefetch(i + 1);
    x = RunBlock(model, i, x, microbatch.labels, weights, ContextOf(i, parameters, microbatch.context));
    parameters.Release(i);
    if (hidden != nullptr) hidden->push_back(x);
  }
  return x;
}

at::Tensor ForwardLossSum(const Model& model, BlockParameters& parameters, const Microbatch& microbatch) {
  return ForwardStage(model, parameters, 0, model.blocks().size(), microbatch, at::Tensor());
}

at::Tensor ForwardLogits(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                         std::vector<at::Tensor>* hidden) {
  c10::AutoGradMode no_grad(false);
  const size_t head = model.blocks().size() - 1;
  const at::Tensor x = ForwardStage(model, parameters, 0, head, microbatch, at::Tensor(), hidden);  // (B, S, D)
  const at::Tensor logits = model.head().Forward(x, parameters.Weights(head), microbatch.context);
  parameters.Release(head);
  return logits;
}

}  // namespace titan
