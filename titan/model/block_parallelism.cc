#include "titan/model/block_parallelism.h"

#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/linear_cross_entropy.h"
#include "titan/model/block.h"
#include "titan/model/context.h"
#include "titan/model/keeper.h"
#include "titan/model/linear.h"

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

std::pair<int64_t, int64_t> BlockParallelism::HiddenShape(const BatchContext& context) const {
  return {context.positions.size(0), context.positions.size(1)};
}

std::vector<at::Tensor> BlockParallelism::ColumnLinears(const at::Tensor& x, absl::Span<const at::Tensor> weights,
                                                        const BatchContext& context) const {
  std::vector<at::Tensor> products;
  for (const at::Tensor& weight : weights) {
    const KeepScope keep(Keeper::NextProduct(context.keeper));
    products.push_back(Linear(x, weight, context.deferred));
  }
  return products;
}

at::Tensor BlockParallelism::RowLinear(const at::Tensor& x, const at::Tensor& weight,
                                       const BatchContext& context) const {
  const KeepScope keep(Keeper::NextProduct(context.keeper));
  return Linear(x, weight, context.deferred);
}

at::Tensor BlockParallelism::Embed(const at::Tensor& tokens, const at::Tensor& table, const BatchContext&) const {
  return Embedding(tokens, table);
}

at::Tensor BlockParallelism::LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                                                const at::Tensor& labels, const BatchContext&) const {
  return titan::LinearCrossEntropy(hidden.reshape({-1, hidden.size(-1)}), weight, labels.reshape({-1}));
}

at::Tensor BlockParallelism::Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       const BatchContext& context) const {
  const KeepScope keep(Keeper::Always(context.keeper));
  return titan::Attention(q, k, v, context.first_key, context.attention_mask);
}

}  // namespace titan
