#include "titan/parallel/mesh_parallelism.h"

#include "absl/log/check.h"
#include "titan/model/block.h"
#include "titan/model/keeper.h"
#include "titan/parallel/loss_parallel.h"
#include "titan/parallel/overlapped_linear.h"
#include "titan/parallel/tensor_parallel.h"

namespace titan {

namespace {

at::Tensor Rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

}  // namespace

MeshParallelism::MeshParallelism(const ParallelGroups& groups, const TensorParallelOptions& tensor_parallel,
                                 const ContextParallelOptions& context_parallel)
    : tp_(groups.tp()), options_(tensor_parallel) {
  CHECK(options_.sequence_parallel || !options_.overlaps) << "only tokens that are gathered can overlap with products";
  if (groups.cp().size() > 1) context_parallel_.emplace(groups.cp(), context_parallel);
}

at::Tensor MeshParallelism::LocalTokens(const at::Tensor& values) const {
  return context_parallel_ ? context_parallel_->LocalTokens(values) : values;
}

void MeshParallelism::PrepareAttention(const at::Tensor& positions, const ContextOptions& options,
                                       BatchContext& context) const {
  if (context_parallel_) return context_parallel_->PrepareAttention(positions, options, context);
  BlockParallelism::PrepareAttention(positions, options, context);
}

std::pair<int64_t, int64_t> MeshParallelism::HiddenShape(const BatchContext& context) const {
  if (tp_.size() == 1 || !options_.sequence_parallel) return BlockParallelism::HiddenShape(context);
  return {1, context.positions.numel() / tp_.size()};
}

at::Tensor MeshParallelism::AllTokens(const at::Tensor& x, const BatchContext& context) const {
  if (!options_.sequence_parallel) return AllReduceGradient(x, tp_);
  return GatherRows(Rows(x), tp_).view({context.positions.size(0), context.positions.size(1), x.size(-1)});
}

at::Tensor MeshParallelism::SumOfRanks(const at::Tensor& summand) const {
  if (!options_.sequence_parallel) return AllReduceSum(summand, tp_);
  return ReduceScatterRows(Rows(summand), tp_).unsqueeze(0);
}

std::vector<at::Tensor> MeshParallelism::ColumnLinears(const at::Tensor& x, absl::Span<const LinearWeight> weights,
                                                       const BatchContext& context) const {
  if (tp_.size() == 1) return BlockParallelism::ColumnLinears(x, weights, context);
  if (!options_.overlaps) return BlockParallelism::ColumnLinears(AllTokens(x, context), weights, context);
  std::vector<at::Tensor> matrices;
  for (const LinearWeight& weight : weights) matrices.push_back(weight.weight);
  std::vector<at::Tensor> products = OverlappedColumnLinears(Rows(x), matrices, tp_, context.gradients);
  for (at::Tensor& y : products) y = y.view({context.positions.size(0), context.positions.size(1), y.size(1)});
  return products;
}

at::Tensor MeshParallelism::RowLinear(const at::Tensor& x, const LinearWeight& weight,
                                      const BatchContext& context) const {
  if (tp_.size() == 1) return BlockParallelism::RowLinear(x, weight, context);
  if (!options_.overlaps) {
    const at::Tensor summand = BlockParallelism::RowLinear(x, weight, context);
    const KeepScope keep(Keeper::Always(context.keeper));
    return SumOfRanks(summand);
  }
  const KeepScope keep(Keeper::Always(context.keeper));
  return OverlappedRowLinear(Rows(x), weight.weight, tp_, context.gradients).unsqueeze(0);
}

at::Tensor MeshParallelism::Embed(const at::Tensor& tokens, const at::Tensor& table,
                                  const BatchContext& context) const {
  if (tp_.size() == 1) return BlockParallelism::Embed(tokens, table, context);
  return SumOfRanks(VocabularyEmbedding(tokens, table, tp_));
}

at::Tensor MeshParallelism::LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                                               const at::Tensor& labels, const BatchContext& context) const {
  if (tp_.size() == 1) return BlockParallelism::LinearCrossEntropy(hidden, weight, labels, context);
  return VocabularyCrossEntropy(Rows(AllTokens(hidden, context)), weight, labels.reshape({-1}), tp_,
                                /*gathers_logits=*/!options_.loss_parallel);
}

at::Tensor MeshParallelism::Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const BatchContext& context) const {
  return context_parallel_ ? context_parallel_->Attention(q, k, v, context)
                           : BlockParallelism::Attention(q, k, v, context);
}

}  // namespace titan
