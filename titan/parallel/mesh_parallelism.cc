#include "titan/parallel/mesh_parallelism.h"

#include "titan/model/block.h"
#include "titan/parallel/tensor_parallel.h"

namespace titan {

MeshParallelism::MeshParallelism(const ParallelGroups& groups, const ContextParallelOptions& options)
    : tp_(groups.tp()) {
  if (groups.cp().size() > 1) context_parallel_.emplace(groups.cp(), options);
}

at::Tensor MeshParallelism::LocalTokens(const at::Tensor& values) const {
  return context_parallel_ ? context_parallel_->LocalTokens(values) : values;
}

void MeshParallelism::PrepareAttention(const at::Tensor& positions, bool several_documents,
                                       BatchContext& context) const {
  if (context_parallel_) return context_parallel_->PrepareAttention(positions, several_documents, context);
  BlockParallelism::PrepareAttention(positions, several_documents, context);
}

at::Tensor MeshParallelism::GatherTokens(const at::Tensor& x, const BatchContext& context) const {
  if (tp_.size() == 1) return x;
  const at::IntArrayRef tokens = context.positions.sizes();  // (B, S)
  return GatherRows(x.reshape({-1, x.size(-1)}), tp_).view({tokens[0], tokens[1], x.size(-1)});
}

at::Tensor MeshParallelism::ReduceScatterTokens(const at::Tensor& summand, const BatchContext&) const {
  if (tp_.size() == 1) return summand;
  return ReduceScatterRows(summand.reshape({-1, summand.size(-1)}), tp_).unsqueeze(0);
}

at::Tensor MeshParallelism::Embed(const at::Tensor& tokens, const at::Tensor& table,
                                  const BatchContext& context) const {
  if (tp_.size() == 1) return BlockParallelism::Embed(tokens, table, context);
  return ReduceScatterTokens(VocabularyEmbedding(tokens, table, tp_), context);
}

at::Tensor MeshParallelism::LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                                               const at::Tensor& labels) const {
  if (tp_.size() == 1) return BlockParallelism::LinearCrossEntropy(hidden, weight, labels);
  return VocabularyCrossEntropy(hidden, weight, labels, tp_);
}

at::Tensor MeshParallelism::Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const BatchContext& context) const {
  return context_parallel_ ? context_parallel_->Attention(q, k, v, context)
                           : BlockParallelism::Attention(q, k, v, context);
}

}  // namespace titan
