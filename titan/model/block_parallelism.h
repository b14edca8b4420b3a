// What a block asks of the other ranks that hold parts of its weights (tensor parallelism) or of its sequences (context
// parallelism). A family's code is written once, against this; one process alone gets SingleRank, where nothing
// travels.
//
//   const at::Tensor h = context.parallelism->GatherTokens(RmsNorm(x, norm, eps), context);  // all tokens, this rank's
//   weights return x + context.parallelism->ReduceScatterTokens(at::linear(f(h), w), context);       // this rank's
//   tokens, all weights
//
// With tensor parallelism of T ranks, a rank holds 1/T of every weight that ModelSpec splits, and between blocks 1/T of
// the tokens (sequence parallelism; Korthikanti et al. 2022, arXiv:2205.05198): (1, B S / T, D), row-major pieces of
// (B, S, D).

#ifndef TITAN_MODEL_BLOCK_PARALLELISM_H_
#define TITAN_MODEL_BLOCK_PARALLELISM_H_

#include <ATen/core/Tensor.h>

namespace titan {

struct BatchContext;

class BlockParallelism {
 public:
  BlockParallelism() = default;
  virtual ~BlockParallelism() = default;
  BlockParallelism(const BlockParallelism&) = delete;
  BlockParallelism& operator=(const BlockParallelism&) = delete;

  static const BlockParallelism& SingleRank();

  // This rank's part of (B, S_global) values per token, in the order in which the rank holds its tokens: (B, S).
  virtual at::Tensor LocalTokens(const at::Tensor& values) const;

  // Fills in what Attention() needs: first_key and attention_mask, from the positions of all tokens (B, S_global).
  // `several_documents`: false if every row is one document from its beginning, so that no mask is needed.
  virtual void PrepareAttention(const at::Tensor& positions, bool several_documents, BatchContext& context) const;

  // This rank's tokens (1, B S / T, D) -> all of them (B, S, D). Differentiable: the gradients that the ranks have for
  // the same token are added.
  virtual at::Tensor GatherTokens(const at::Tensor& x, const BatchContext& context) const;
  // Summands of all tokens (B, S, D), one from each rank -> their sum for this rank's tokens (1, B S / T, D).
  virtual at::Tensor ReduceScatterTokens(const at::Tensor& summand, const BatchContext& context) const;

  // tokens (B, S) int64, this rank's rows of the table (V / T, D) -> this rank's tokens.
  virtual at::Tensor Embed(const at::Tensor& tokens, const at::Tensor& table, const BatchContext& context) const;

  // kernels/linear_cross_entropy.h with this rank's rows of the weight (V / T, D): hidden (N, D), labels (N). The same
  // scalar on every rank. The gradient for `hidden` is this rank's summand.
  virtual at::Tensor LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                                        const at::Tensor& labels) const;

  // kernels/attention.h over whole sequences: q (B, S, H, d); k, v (B, S, H_kv, d) of this rank's tokens and heads.
  virtual at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const BatchContext& context) const;
};

}  // namespace titan

#endif  // TITAN_MODEL_BLOCK_PARALLELISM_H_
