#include "titan/model/block_parallelism.h"

#include <ATen/ops/tensor.h>

#include <algorithm>
#include <utility>

#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/linear_cross_entropy.h"
#include "titan/model/block.h"
#include "titan/model/context.h"
#include "titan/model/keeper.h"
#include "titan/model/linear.h"

namespace titan {

std::vector<at::Tensor> BatchContext::Tensors() const {
  std::vector<at::Tensor> all = {positions, rope_cos, rope_sin, visible.first_key, visible.document_starts};
  for (const AttentionPiece& piece : pieces) all.insert(all.end(), {piece.first_key, piece.end_key});
  all.insert(all.end(), piece_masks.begin(), piece_masks.end());
  all.insert(all.end(), inverse_scales.begin(), inverse_scales.end());
  std::erase_if(all, [](const at::Tensor& tensor) { return !tensor.defined(); });
  return all;
}

const BlockParallelism& BlockParallelism::SingleRank() {
  static const auto* const single = new BlockParallelism();
  return *single;
}

at::Tensor BlockParallelism::LocalTokens(const at::Tensor& values) const { return values; }

void BlockParallelism::PrepareAttention(const at::Tensor& positions, const ContextOptions& options,
                                        BatchContext& context) const {
  context.visible.first_key = FirstKeys(positions);
  context.visible.several_documents = options.HasSeveralDocuments(positions.size(0));
  const std::vector<int32_t>& starts = options.document_starts;
  if (positions.is_cpu() || !context.visible.several_documents || starts.empty()) return;
  for (size_t i = 1; i < starts.size(); ++i) {
    context.visible.longest_document = std::max<int64_t>(context.visible.longest_document, starts[i] - starts[i - 1]);
  }
  context.visible.document_starts =
      at::tensor(starts, at::TensorOptions(at::kInt).pinned_memory(true)).to(positions.device(), /*non_blocking=*/true);
}

std::pair<int64_t, int64_t> BlockParallelism::HiddenShape(const BatchContext& context) const {
  return {context.positions.size(0), context.positions.size(1)};
}

std::vector<at::Tensor> BlockParallelism::ColumnLinears(const at::Tensor& x, absl::Span<const LinearWeight> weights,
                                                        const BatchContext& context) const {
  if (Keeper::TreatsAllAlike(context.keeper)) {
    const KeepScope keep(Keeper::NextProduct(context.keeper));
    return Linears(x, std::vector<LinearWeight>(weights.begin(), weights.end()), context.gradients);
  }
  std::vector<at::Tensor> products;  // one by one: not all of them are kept
  for (const LinearWeight& weight : weights) {
    const KeepScope keep(Keeper::NextProduct(context.keeper));
    products.push_back(Linears(x, {weight}, context.gradients)[0]);
  }
  return products;
}

at::Tensor BlockParallelism::RowLinear(const at::Tensor& x, const LinearWeight& weight,
                                       const BatchContext& context) const {
  const KeepScope keep(Keeper::NextProduct(context.keeper));
  return Linears(x, {weight}, context.gradients)[0];
}

at::Tensor BlockParallelism::Embed(const at::Tensor& tokens, const at::Tensor& table,
                                   const BatchContext& context) const {
  if (context.gradients == nullptr) return Embedding(tokens, table);
  return Embedding(tokens, table,
                   [tokens, gradients = context.gradients](const at::Tensor& weight, const at::Tensor& dout) {
                     gradients->Add(weight, [tokens, dout](GradientSum& sum) {
                       if (!std::exchange(sum.has_value, true)) sum.value.zero_();
                       AddEmbeddingGradient(tokens, dout, sum.value);
                     });
                   });
}

at::Tensor BlockParallelism::LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                                                const at::Tensor& labels, const BatchContext& context) const {
  const at::Tensor rows = hidden.reshape({-1, hidden.size(-1)});  // (B S, D)
  if (context.gradients == nullptr || !context.loss_gradient.defined()) {
    return titan::LinearCrossEntropy(rows, weight, labels.reshape({-1}));
  }
  const LossWeightGradient weight_gradient{
      .scale = context.loss_gradient,
      .add = [&](const at::Tensor& x, const at::Tensor& dy) { WeightGradient(x, weight, dy, context.gradients); }};
  return titan::LinearCrossEntropy(rows, weight, labels.reshape({-1}), &weight_gradient);
}

at::Tensor BlockParallelism::Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       const BatchContext& context) const {
  const KeepScope keep(Keeper::Always(context.keeper));
  return titan::Attention(q, k, v, context.visible);
}

}  // namespace titan
