// A block is the unit of the engine: it declares its parameters (ModelSpec) and computes y = f(x, weights). LibTorch
// autograd lives inside one block; whoever walks the blocks (titan/train) hands gradients from one to the next, and so
// decides about gathering, recomputation, stages and streams without hooks.
//
//   at::Tensor x = batch.tokens;                                   // (B, S) int64
//   for (const auto& block : model.blocks()) x = block->Forward(x, weights_of(block), context);
//   // x is now (B, S, vocab) logits, or the loss: see HeadBlock.

#ifndef TITAN_MODEL_BLOCK_H_
#define TITAN_MODEL_BLOCK_H_

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "kernels/attention.h"
#include "kernels/attention_piece.h"
#include "titan/model/block_parallelism.h"
#include "titan/plan/model_spec.h"

namespace titan {

class WeightGradients;
class Keeper;

// What all blocks of one forward pass share. B sequences, of which this rank holds S tokens each.
struct BatchContext {
  at::Tensor positions;  // (B, S) int64: place of each token in its document; restarts where a document does
  at::Tensor rope_cos;   // (B, S, head_dim/2), of the accumulation dtype (fp32, or fp64 in fp64 runs)
  at::Tensor rope_sin;   // likewise
  // Which keys a query sees. BlockParallelism::Attention reads it, and may keep it in another form.
  VisibleKeys visible;
  // With context parallelism, see titan/parallel/context_parallel.h: what this rank's queries see of the keys that come
  // from other ranks, and masks of the same for the library's attention.
  std::vector<AttentionPiece> pieces;
  std::vector<at::Tensor> piece_masks;
  const BlockParallelism* parallelism = &BlockParallelism::SingleRank();
  // Of the block that runs: of each of its weights that is in float8 already the inverse scale (kernels/float8.h), of
  // the others an undefined tensor. Empty: none is.
  std::vector<at::Tensor> inverse_scales;
  // Scalar: what backward of the loss will be called with, where that is known when the loss is computed.
  at::Tensor loss_gradient;
  WeightGradients* gradients = nullptr;  // not null: where products of titan/model/linear.h put weights' gradients
  Keeper* keeper = nullptr;              // not null: of the layer that runs, for selective recomputation

  // All that are there of the tensors above.
  std::vector<at::Tensor> Tensors() const;
};

class Block {
 public:
  virtual ~Block() = default;

  const BlockSpec& spec() const { return spec_; }

  // `weights`: one tensor per parameter of spec(), then one per shared parameter, of the compute dtype, or
  // in float8 where the context has an inverse scale for them.
  // Embedding: x (B, S) int64 -> (B, S, D). Layer: (B, S, D) -> (B, S, D). Head: (B, S, D) -> logits (B, S, V).
  virtual at::Tensor Forward(const at::Tensor& x, absl::Span<const at::Tensor> weights,
                             const BatchContext& context) const = 0;

 protected:
  explicit Block(BlockSpec spec) : spec_(std::move(spec)) {}

 private:
  BlockSpec spec_;
};

// The last block also computes the loss, without holding all logits at once where it can.
class HeadBlock : public Block {
 public:
  // Sum of the cross-entropies of all labels that are not -100: a scalar, fp32 (fp64 in fp64 runs).
  // x (B, S, D), labels (B, S) int64, already shifted: labels[b][t] is the target at position t.
  virtual at::Tensor ForwardLossSum(const at::Tensor& x, const at::Tensor& labels, absl::Span<const at::Tensor> weights,
                                    const BatchContext& context) const = 0;

 protected:
  using Block::Block;
};

}  // namespace titan

#endif  // TITAN_MODEL_BLOCK_H_
