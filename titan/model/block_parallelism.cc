#include "titan/model/block_parallelism.h"

#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/linear_cross_entropy.h"
#include "titan/model/block.h"
#include "titan/model/context.h"

namespace titan {

const BlockParallelism& BlockParallelism::SingleRank() {
  static const auto* const single = new BlockParallelism();
  return *single;
}

at::Tensor BlockParallelism::LocalTokens(const at::Tensor& values) const { return values; }

void BlockParallelism::PrepareAttention(const at::Tensor& positions, bool several_documents,
                                        BatchContext& context) const {
  context.first_key = FirstKeys(positions);
  if (several_documents && !positions.is_cpu()) context.attention_mask = DocumentCausalMask(context.first_key);
}

at::Tensor BlockParallelism::GatherTokens(const at::Tensor& x, const BatchContext&) const { return x; }

at::Tensor BlockParallelism::ReduceScatterTokens(const at::Tensor& summand, const BatchContext&) const {
  return summand;
}

at::Tensor BlockParallelism::Embed(const at::Tensor& tokens, const at::Tensor& table, const BatchContext&) const {
  return Embedding(tokens, table);
}

at::Tensor BlockParallelism::LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                                                const at::Tensor& labels) const {
  return titan::LinearCrossEntropy(hidden, weight, labels);
}

at::Tensor BlockParallelism::Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       const BatchContext& context) const {
  return titan::Attention(q, k, v, context.first_key, context.attention_mask);
}

}  // namespace titan
