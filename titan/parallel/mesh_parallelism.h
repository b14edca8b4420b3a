// BlockParallelism over a mesh: tensor, sequence and loss parallelism (Shoeybi et al. 2019, arXiv:1909.08053;
// Korthikanti et al. 2022, arXiv:2205.05198) over the tp axis, context parallelism (context_parallel.h) over the cp
// axis.
//
//   const MeshParallelism parallelism(groups, {.overlaps = true}, {.method = ContextParallelMethod::kAllGather});
//   BatchContext context = model.MakeContext(positions, {.parallelism = &parallelism});

#ifndef TITAN_PARALLEL_MESH_PARALLELISM_H_
#define TITAN_PARALLEL_MESH_PARALLELISM_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "titan/model/block_parallelism.h"
#include "titan/parallel/context_parallel.h"
#include "titan/parallel/groups.h"

namespace titan {

struct TensorParallelOptions {
  // Between blocks a rank has its part of the tokens; else all ranks have all, and do the same with them.
  bool sequence_parallel = true;
  // The products of layers run while their inputs or results travel, in parts (overlapped_linear.h). Only with
  // sequence_parallel.
  bool overlaps = false;
  // The losses are computed where the logits are; else all ranks gather the logits, and compute all losses.
  bool loss_parallel = true;
};

class MeshParallelism : public BlockParallelism {
 public:
  // `groups` must outlive it.
  MeshParallelism(const ParallelGroups& groups, const TensorParallelOptions& tensor_parallel,
                  const ContextParallelOptions& context_parallel);

  at::Tensor LocalTokens(const at::Tensor& values) const override;
  void PrepareAttention(const at::Tensor& positions, const ContextOptions& options,
                        BatchContext& context) const override;
  std::pair<int64_t, int64_t> HiddenShape(const BatchContext& context) const override;
  std::vector<at::Tensor> ColumnLinears(const at::Tensor& x, absl::Span<const LinearWeight> weights,
                                        const BatchContext& context) const override;
  at::Tensor RowLinear(const at::Tensor& x, const LinearWeight& weight, const BatchContext& context) const override;
  at::Tensor Embed(const at::Tensor& tokens, const at::Tensor& table, const BatchContext& context) const override;
  at::Tensor LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                                const BatchContext& context) const override;
  at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const BatchContext& context) const override;

 private:
  // This rank's tokens -> all of them (B, S, D), for products of which each rank computes a part.
  at::Tensor AllTokens(const at::Tensor& x, const BatchContext& context) const;
  // Summands of all tokens (B, S, D), one from each rank -> their sum for this rank's tokens.
  at::Tensor SumOfRanks(const at::Tensor& summand) const;

  Communicator& tp_;
  const TensorParallelOptions options_;
  std::optional<ContextParallel> context_parallel_;  // of more than one rank
};

}  // namespace titan

#endif  // TITAN_PARALLEL_MESH_PARALLELISM_H_
