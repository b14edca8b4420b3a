// What a block asks of the other ranks that hold parts of its weights (tensor parallelism) or of its sequences (context
// parallelism). A family's code is written once, against this; one process alone gets SingleRank, where nothing
// travels.
//
//   const std::vector<at::Tensor> h =
//       context.parallelism->ColumnLinears(RmsNorm(x, norm, eps), {w1, w3}, context);  // all tokens, this rank's
//       weights
//   return x + context.parallelism->RowLinear(SwiGlu(h[0], h[1]), w2, context);        // this rank's tokens
//
// With tensor parallelism of T ranks, a rank holds 1/T of every weight that ModelSpec splits, and between blocks, where
// the residual stream and the norms are, 1/T of the tokens (sequence parallelism; Korthikanti et al. 2022,
// arXiv:2205.05198): (1, B S / T, D), row-major pieces of (B, S, D). Without sequence parallelism it is all of them,
// (B, S, D). "This rank's tokens" are these.

#ifndef TITAN_MODEL_BLOCK_PARALLELISM_H_
#define TITAN_MODEL_BLOCK_PARALLELISM_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "titan/model/linear.h"

namespace titan {

struct BatchContext;
struct ContextOptions;

class BlockParallelism {
 public:
  BlockParallelism() = default;
  virtual ~BlockParallelism() = default;
  BlockParallelism(const BlockParallelism&) = delete;
  BlockParallelism& operator=(const BlockParallelism&) = delete;

  static const BlockParallelism& SingleRank();

  // This rank's part of (B, S_global) values per token, in the order in which the rank holds its tokens: (B, S).
  virtual at::Tensor LocalTokens(const at::Tensor& values) const;

  // Fills in what Attention() needs, from the positions of all tokens (B, S_global).
  virtual void PrepareAttention(const at::Tensor& positions, const ContextOptions& options,
                                BatchContext& context) const;

  // The first two dimensions of this rank's tokens: (B, S), or (1, B S / T).
  virtual std::pair<int64_t, int64_t> HiddenShape(const BatchContext& context) const;

  // x weight^T for matrices of which each rank has 1/T of the output features (TensorSplit::kColumn): this rank's
  // tokens (.., D), weights (out_i / T, D) -> all tokens (B, S, out_i / T) each.
  virtual std::vector<at::Tensor> ColumnLinears(const at::Tensor& x, absl::Span<const LinearWeight> weights,
                                                const BatchContext& context) const;
  // x weight^T for a matrix of which each rank has 1/T of the input features (TensorSplit::kRow): all tokens
  // (B, S, in / T), weight (D, in / T) -> this rank's tokens.
  virtual at::Tensor RowLinear(const at::Tensor& x, const LinearWeight& weight, const BatchContext& context) const;

  // tokens (B, S) int64, this rank's rows of the table (V / T, D) -> this rank's tokens.
  virtual at::Tensor Embed(const at::Tensor& tokens, const at::Tensor& table, const BatchContext& context) const;

  // kernels/linear_cross_entropy.h with this rank's rows of the weight (V / T, D): this rank's tokens `hidden`, the
  // labels of all (B, S). The same scalar on every rank.
  virtual at::Tensor LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                                        const BatchContext& context) const;

  // kernels/attention.h over whole sequences: q (B, S, H, d); k, v (B, S, H_kv, d) of this rank's tokens and heads.
  virtual at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const BatchContext& context) const;
};

}  // namespace titan

#endif  // TITAN_MODEL_BLOCK_PARALLELISM_H_
