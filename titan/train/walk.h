// Walks the blocks of a model forward and then backward. Autograd lives inside one block only; the walk hands gradients
// from one block to the next, so that it is the one place that decides when weights are there, what is recomputed and
// when a gradient is final.
//
//   at::Tensor loss_sum = ForwardBackward(model, parameters, microbatch, 1.0 / valid_tokens, recompute);

#ifndef TITAN_TRAIN_WALK_H_
#define TITAN_TRAIN_WALK_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <vector>

#include "titan/model/model.h"

namespace titan {

// Where the walk takes weights from and leaves gradients.
class BlockParameters {
 public:
  virtual ~BlockParameters() = default;

  // The weights of a block in the compute dtype: its own parameters in spec order, then its shared ones.
  virtual std::vector<at::Tensor> Weights(size_t block) = 0;

  // Adds the gradients of one microbatch, in the order and dtype of Weights(). Called once per block and microbatch, as
  // soon as they are final, from the last block to the first.
  virtual void AddGradients(size_t block, std::vector<at::Tensor> gradients) = 0;
};

// B sequences of S tokens, on the device of the weights.
struct Microbatch {
  at::Tensor tokens;  // (B, S) int64
  at::Tensor labels;  // (B, S) int64, already shifted, -100 where there is none
  BatchContext context;
};

// Sum of the token cross-entropies, a scalar in fp32 (fp64 for fp64 weights); every parameter's gradient of
// (sum * gradient_scale) goes to `parameters`. Block i keeps only its input and runs forward again before its backward
// where recompute[i] is true (one entry per block; never useful for the head, whose forward is followed by its
// backward).
at::Tensor ForwardBackward(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                           double gradient_scale, const std::vector<bool>& recompute);

// The same sum without gradients.
at::Tensor ForwardLossSum(const Model& model, BlockParameters& parameters, const Microbatch& microbatch);

// Logits (B, S, vocab), without gradients. `hidden`, if not null, receives the output of every block but the head:
// element 0 is the embedding's, element i that of layer i-1, each (B, S, D).
at::Tensor ForwardLogits(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                         std::vector<at::Tensor>* hidden = nullptr);

}  // namespace titan

#endif  // TITAN_TRAIN_WALK_H_
