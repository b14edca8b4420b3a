#include "titan/train/walk.h"

#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>

#include <utility>

#include "absl/log/check.h"

namespace titan {
namespace {

// One block's part of the autograd graph: what its backward starts from and ends in.
struct Tape {
  at::Tensor input;                 // (B, S, D) leaf; (B, S) tokens without gradient for the first block
  std::vector<at::Tensor> weights;  // leaves
  at::Tensor output;                // (B, S, D), or the loss sum
};

// Fresh leaves over the same storage, so that a gradient ends here and never reaches into another block's graph.
at::Tensor Leaf(const at::Tensor& tensor) { return tensor.detach().requires_grad_(true); }

std::vector<at::Tensor> Leaves(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> leaves;
  leaves.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) leaves.push_back(Leaf(tensor));
  return leaves;
}

// Output of block `index`: the loss sum for the last one, else (B, S, D).
at::Tensor Run(const Model& model, const Microbatch& microbatch, size_t index, const at::Tensor& input,
               const std::vector<at::Tensor>& weights) {
  const bool is_last = index + 1 == model.blocks().size();
  return is_last ? model.head().ForwardLossSum(input, microbatch.labels, weights, microbatch.context)
                 : model.blocks()[index]->Forward(input, weights, microbatch.context);
}

// Forward of block `index` with its graph recorded. `input` is not part of any graph.
Tape Record(const Model& model, BlockParameters& parameters, const Microbatch& microbatch, size_t index,
            const at::Tensor& input) {
  Tape tape;
  tape.input = index == 0 ? input : Leaf(input);
  tape.weights = Leaves(parameters.Weights(index));
  tape.output = Run(model, microbatch, index, tape.input, tape.weights);
  return tape;
}

// Backward of one block from the gradient of its output; hands the weights' gradients on and returns the input's.
at::Tensor Replay(Tape tape, size_t index, const at::Tensor& output_gradient, BlockParameters& parameters) {
  tape.output.backward(output_gradient);
  tape.output.reset();
  std::vector<at::Tensor> gradients;
  gradients.reserve(tape.weights.size());
  for (const at::Tensor& weight : tape.weights) {
    CHECK(weight.grad().defined()) << "block " << index << " does not use parameter " << gradients.size();
    gradients.push_back(weight.grad());
  }
  tape.weights.clear();
  parameters.AddGradients(index, std::move(gradients));
  return index == 0 ? at::Tensor() : tape.input.grad();
}

// Runs the blocks before the head without gradients; returns the head's input (B, S, D).
at::Tensor ForwardBody(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                       std::vector<at::Tensor>* hidden) {
  at::Tensor x = microbatch.tokens;  // (B, S), then (B, S, D)
  for (size_t i = 0; i + 1 < model.blocks().size(); ++i) {
    x = model.blocks()[i]->Forward(x, parameters.Weights(i), microbatch.context);
    if (hidden != nullptr) hidden->push_back(x);
  }
  return x;
}

}  // namespace

at::Tensor ForwardBackward(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                           double gradient_scale, const std::vector<bool>& recompute) {
  const size_t num_blocks = model.blocks().size();
  CHECK_EQ(recompute.size(), num_blocks);

  std::vector<Tape> tapes(num_blocks);
  at::Tensor x = microbatch.tokens;  // (B, S), then (B, S, D)
  for (size_t i = 0; i < num_blocks; ++i) {
    if (recompute[i]) {
      c10::AutoGradMode no_grad(false);
      tapes[i].input = x;
      x = Run(model, microbatch, i, x, parameters.Weights(i));
    } else {
      tapes[i] = Record(model, parameters, microbatch, i, x);
      x = tapes[i].output.detach();
    }
  }
  const at::Tensor loss_sum = x;  // scalar

  at::Tensor gradient = at::full({}, gradient_scale, loss_sum.options());  // of the loss sum, then (B, S, D)
  x.reset();
  for (size_t i = num_blocks; i-- > 0;) {
    Tape tape = std::move(tapes[i]);
    if (!tape.output.defined()) tape = Record(model, parameters, microbatch, i, tape.input);
    gradient = Replay(std::move(tape), i, gradient, parameters);
  }
  return loss_sum;
}

at::Tensor ForwardLossSum(const Model& model, BlockParameters& parameters, const Microbatch& microbatch) {
  c10::AutoGradMode no_grad(false);
  const at::Tensor x = ForwardBody(model, parameters, microbatch, /*hidden=*/nullptr);
  return model.head().ForwardLossSum(x, microbatch.labels, parameters.Weights(model.blocks().size() - 1),
                                     microbatch.context);
}

at::Tensor ForwardLogits(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                         std::vector<at::Tensor>* hidden) {
  c10::AutoGradMode no_grad(false);
  const at::Tensor x = ForwardBody(model, parameters, microbatch, hidden);
  return model.head().Forward(x, parameters.Weights(model.blocks().size() - 1), microbatch.context);
}

}  // namespace titan
