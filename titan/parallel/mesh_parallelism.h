// BlockParallelism over a mesh: tensor, sequence and loss parallelism (Shoeybi et al. 2019, arXiv:1909.08053;
// Korthikanti et al. 2022, arXiv:2205.05198) over the tp axis, context parallelism (context_parallel.h) over the cp
// axis.
//
//   const MeshParallelism parallelism(groups, {.method = ContextParallelMethod::kAllGather});
//   BatchContext context = model.MakeContext(positions, {.parallelism = &parallelism});

#ifndef TITAN_PARALLEL_MESH_PARALLELISM_H_
#define TITAN_PARALLEL_MESH_PARALLELISM_H_

#include <ATen/core/Tensor.h>

#include <optional>

#include "titan/model/block_parallelism.h"
#include "titan/parallel/context_parallel.h"
#include "titan/parallel/groups.h"

namespace titan {

class MeshParallelism : public BlockParallelism {
 public:
  // `groups` must outlive it.
  MeshParallelism(const ParallelGroups& groups, const ContextParallelOptions& options);

  at::Tensor LocalTokens(const at::Tensor& values) const override;
  void PrepareAttention(const at::Tensor& positions, bool several_documents, BatchContext& context) const override;
  at::Tensor GatherTokens(const at::Tensor& x, const BatchContext& context) const override;
  at::Tensor ReduceScatterTokens(const at::Tensor& summand, const BatchContext& context) const override;
  at::Tensor Embed(const at::Tensor& tokens, const at::Tensor& table, const BatchContext& context) const override;
  at::Tensor LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& labels) const override;
  at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const BatchContext& context) const override;

 private:
  Communicator& tp_;
  std::optional<ContextParallel> context_parallel_;  // of more than one rank
};

}  // namespace titan

#endif  // TITAN_PARALLEL_MESH_PARALLELISM_H_
