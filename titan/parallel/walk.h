// Walks blocks of a model forward and then backward. Autograd lives inside one block only; the walk hands gradients
// from one block to the next, so that it is the one place that decides when weights are there, what is recomputed and
// when a gradient is final.
//
//   at::Tensor loss_sum = ForwardBackward(model, parameters, microbatch, 1.0 / valid_tokens, recompute);

#ifndef TITAN_PARALLEL_WALK_H_
#define TITAN_PARALLEL_WALK_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "titan/model/keeper.h"
#include "titan/model/linear.h"
#include "titan/model/model.h"
#include "titan/parallel/activation_offload.h"

namespace titan {

// What of a block's forward runs again before its backward, because it was not kept.
enum class Recompute {
  kNothing,
  kElementwise,  // norms, RoPE, SwiGLU: all but what a Keeper keeps that keeps every product
  kCheap,        // all but what a Keeper keeps that keeps every second product
  kAll,          // the block's input is kept, and nothing else
};

// Where the walk takes weights from and leaves gradients.
class BlockParameters {
 public:
  virtual ~BlockParameters() = default;

  // The weights of a block in the compute dtype, or in float8: its own parameters in spec order, then its shared ones.
  // The tensors are the same at every call; their values are there until Release.
  virtual std::vector<at::Tensor> Weights(size_t block) = 0;
  // BatchContext::inverse_scales for them.
  virtual std::vector<at::Tensor> InverseScales(size_t block) {
    static_cast<void>(block);
    return {};
  }
  // The weights of `block` are the next that will be asked for: their way here may start.
  virtual void Prefetch(size_t block) { static_cast<void>(block); }
  // The values are not needed until they are asked for again.
  virtual void Release(size_t block) { static_cast<void>(block); }

  // Where the gradients of a block's weight are added up, for those who can add to it themselves, from the block's
  // backward to its AddGradients. Null: nowhere but in AddGradients.
  virtual GradientSum* SumOfGradients(size_t block, size_t weight) {
    static_cast<void>(block), static_cast<void>(weight);
    return nullptr;
  }
  // Adds the gradients of one microbatch, in the order and dtype of Weights(); undefined where they are in the sum
  // already. Called once per block and microbatch, as soon as they are final, from the last block to the first.
  virtual void AddGradients(size_t block, std::vector<at::Tensor> gradients) = 0;
};

// B sequences, of which this rank holds S tokens each; on the device of the weights.
struct Microbatch {
  at::Tensor tokens;  // (B, S) int64
  at::Tensor labels;  // (B, S) int64, already shifted, -100 where there is none
  BatchContext context;
};

// The blocks [begin, end) of a model on the way of one microbatch: forward once, then backward once. A pipeline has
// several under way.
class StageWalk {
 public:
  // `recompute`: one entry per block of the model; never useful for the head, whose forward is followed by its
  // backward. With `split_backward`, BackwardInput and BackwardWeight may be called instead of Backward. All but
  // `microbatch` outlive the walk. Blocks that `offload` takes run nothing again, and no backward is split then.
  StageWalk(const Model& model, BlockParameters& parameters, size_t begin, size_t end, const Microbatch& microbatch,
            const std::vector<Recompute>& recompute, bool split_backward = false, ActivationOffload* offload = nullptr);
  StageWalk(const StageWalk&) = delete;  // what its graphs call back is this one
  StageWalk& operator=(const StageWalk&) = delete;

  // `input`: the output of block begin - 1; ignored by the first block, which takes the tokens. Returns the output of
  // the last block of the range, without a graph: hidden values, or for the head the sum of the token cross-entropies,
  // a scalar in fp32 (fp64 for fp64 weights).
  at::Tensor Forward(const at::Tensor& input);

  // From the gradient of Forward's result to the gradient of its input (undefined for the first block); the weights'
  // gradients go to the parameters.
  at::Tensor Backward(const at::Tensor& output_gradient);
  // The same in two steps: the matrix products that give the weights' gradients wait for the second.
  at::Tensor BackwardInput(const at::Tensor& output_gradient);
  void BackwardWeight();

 private:
  // One block's part of the autograd graph: what its backward starts from and ends in.
  struct Tape {
    at::Tensor input;                          // (B, S, D) leaf; (B, S) tokens without gradient for the first block
    std::vector<at::Tensor> weights;           // leaves
    std::vector<bool> is_summed;               // of each weight: the gradient is in SumOfGradients
    at::Tensor output;                         // (B, S, D), or the loss sum
    std::unique_ptr<Keeper> keeper;            // between the two forwards, unless everything runs again
    std::shared_ptr<ActivationParcel> parcel;  // from forward to backward, of a block that puts away
  };

  at::Tensor Run(size_t block, const at::Tensor& input, const std::vector<at::Tensor>& weights, Keeper* keeper) const;
  void Record(size_t block, const at::Tensor& input, Keeper* keeper);
  void RecordAndPutAway(size_t block, const at::Tensor& input);
  void FetchActivations(size_t block);
  void RecordAgain(size_t block);
  GradientSum* FindSum(const at::Tensor& weight);
  void HandOnGradients(size_t block, Tape& tape);
  at::Tensor WalkBackward(at::Tensor gradient, bool defer_weights);

  const Model& model_;
  BlockParameters& parameters_;
  const size_t begin_, end_;
  Microbatch microbatch_;
  const std::vector<Recompute>& recompute_;
  const bool split_backward_;
  ActivationOffload* const offload_;
  WeightGradients weight_gradients_;
  std::vector<Tape> tapes_;  // of each block of the range
};

// Forward and backward of the whole model: returns the sum of the token cross-entropies; every parameter's gradient of
// (sum * gradient_scale) goes to `parameters`. `recompute` and `offload`: see StageWalk.
at::Tensor ForwardBackward(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                           double gradient_scale, const std::vector<Recompute>& recompute,
                           ActivationOffload* offload = nullptr);
// The same; gradient_scale: a scalar on the device, of any floating dtype.
at::Tensor ForwardBackward(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                           const at::Tensor& gradient_scale, const std::vector<Recompute>& recompute,
                           ActivationOffload* offload = nullptr);

// The blocks [begin, end) forward alone: what StageWalk::Forward returns. Nothing of a block is kept once the next one
// has run, whatever a training step keeps or computes again. `hidden`, if there is one, gets every block's output.
at::Tensor ForwardStage(const Model& model, BlockParameters& parameters, size_t begin, size_t end,
                        const Microbatch& microbatch, const at::Tensor& input,
                        std::vector<at::Tensor>* hidden = nullptr);

// The sum that ForwardBackward returns, without gradients.
at::Tensor ForwardLossSum(const Model& model, BlockParameters& parameters, const Microbatch& microbatch);

// Logits (B, S, vocab), without gradients. `hidden`, if not null, receives the output of every block but the head:
// element 0 is the embedding's, element i that of layer i-1, each (B, S, D).
at::Tensor ForwardLogits(const Model& model, BlockParameters& parameters, const Microbatch& microbatch,
                         std::vector<at::Tensor>* hidden = nullptr);

}  // namespace titan

#endif  // TITAN_PARALLEL_WALK_H_
