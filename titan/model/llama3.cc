#include "titan/model/llama3.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>

#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "titan/config/experiment.pb.h"
#include "titan/model/context.h"
#include "titan/model/keeper.h"
#include "titan/model/precision.h"
#include "titan/model/rope_frequencies.h"

namespace titan {
namespace {

class Llama3Embedding : public Block {
 public:
  explicit Llama3Embedding(BlockSpec spec) : Block(std::move(spec)) {}

  // x (B, S) int64 -> (B, S, D)
  at::Tensor Forward(const at::Tensor& x, absl::Span<const at::Tensor> weights,
                     const BatchContext& context) const override {
    CHECK_EQ(weights.size(), 1u);
    return context.parallelism->Embed(x, weights[0], context);
  }
};

class Llama3Layer : public Block {
 public:
  Llama3Layer(BlockSpec spec, const config::Model& config, const config::Quantize& quantize)
      : Block(std::move(spec)),
        head_dim_(config.head_dim()),
        norm_eps_(config.norm_eps()),
        precisions_(PrecisionsOf(this->spec(), quantize)) {}

  // x (B, S, D) -> (B, S, D)
  at::Tensor Forward(const at::Tensor& x, absl::Span<const at::Tensor> weights,
                     const BatchContext& context) const override {
    CHECK_EQ(weights.size(), static_cast<size_t>(kNumWeights));
    const BlockParallelism& p = *context.parallelism;
    const auto weight = [&](Weight w) { return WeightOf(w, weights, context); };
    const at::Tensor o = SelfAttention(RmsNorm(x, weights[kAttentionNorm], norm_eps_), weights, context);
    const at::Tensor attended = p.RowLinear(o, weight(kWo), context);  // (B, S, D)
    const auto [normed, sum] = AddRmsNorm(attended, x, weights[kFfnNorm], norm_eps_);
    const auto gate_and_up = p.ColumnLinears(normed, {weight(kW1), weight(kW3)}, context);  // 2 of (B, S, F)
    const at::Tensor hidden = SwiGlu(gate_and_up[0], gate_and_up[1]);                       // (B, S, F)
    Keeper::ForgetOutputs(context.keeper);
    return sum + p.RowLinear(hidden, weight(kW2), context);
  }

 private:
  // The order of the parameters in BuildModelSpec.
  enum Weight { kAttentionNorm, kWq, kWk, kWv, kWo, kFfnNorm, kW1, kW2, kW3, kNumWeights };

  LinearWeight WeightOf(Weight w, absl::Span<const at::Tensor> weights, const BatchContext& context) const {
    return {.weight = weights[w],
            .precision = precisions_[w],
            .inverse_scale = context.inverse_scales.empty() ? at::Tensor() : context.inverse_scales[w]};
  }

  // Before the output projection: h (B, S, D) -> (B, S, H d)
  at::Tensor SelfAttention(const at::Tensor& h, absl::Span<const at::Tensor> weights,
                           const BatchContext& context) const {
    const BlockParallelism& p = *context.parallelism;
    const auto weight = [&](Weight w) { return WeightOf(w, weights, context); };
    std::vector<at::Tensor> qkv = p.ColumnLinears(h, {weight(kWq), weight(kWk), weight(kWv)}, context);
    for (at::Tensor& x : qkv) x = x.view({x.size(0), x.size(1), -1, head_dim_});  // (B, S, heads, d)
    for (const int i : {0, 1}) qkv[i] = Rope(qkv[i], context.rope_cos, context.rope_sin);
    return p.Attention(qkv[0], qkv[1], qkv[2], context).flatten(2);
  }

  const int64_t head_dim_;
  const double norm_eps_;
  const std::vector<LinearPrecision> precisions_;  // of each weight
};

class Llama3Head : public HeadBlock {
 public:
  Llama3Head(BlockSpec spec, const config::Model& config) : HeadBlock(std::move(spec)), norm_eps_(config.norm_eps()) {}

  // x (B, S, D) -> logits (B, S, V), fp32 (fp64 in fp64 runs)
  at::Tensor Forward(const at::Tensor& x, absl::Span<const at::Tensor> weights, const BatchContext&) const override {
    CHECK_EQ(weights.size(), 2u);
    const at::Tensor logits = at::linear(RmsNorm(x, weights[0], norm_eps_), weights[1]);
    return logits.to(logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  }

  at::Tensor ForwardLossSum(const at::Tensor& x, const at::Tensor& labels, absl::Span<const at::Tensor> weights,
                            const BatchContext& context) const override {
    CHECK_EQ(weights.size(), 2u);
    const at::Tensor h = RmsNorm(x, weights[0], norm_eps_);  // (B, S, D)
    return context.parallelism->LinearCrossEntropy(h, weights[1], labels, context);
  }

 private:
  const double norm_eps_;
};

class Llama3 : public Model {
 public:
  Llama3(const config::Model& config, const config::Quantize& quantize, ModelSpec spec)
      : Model(std::move(spec)), frequencies_(RopeFrequencies(config.rope(), config.head_dim())) {
    for (const BlockSpec& block : spec_.blocks) {
      switch (block.kind) {
        case BlockKind::kEmbedding:
          blocks_.push_back(std::make_unique<Llama3Embedding>(block));
          break;
        case BlockKind::kLayer:
          blocks_.push_back(std::make_unique<Llama3Layer>(block, config, quantize));
          break;
        case BlockKind::kHead:
          blocks_.push_back(std::make_unique<Llama3Head>(block, config));
          break;
      }
    }
  }

  BatchContext MakeContext(const at::Tensor& positions, const ContextOptions& options) const override {
    return MakeDocumentContext(positions, frequencies_, options);
  }

 private:
  const std::vector<double> frequencies_;  // radians per position, (head_dim / 2)
};

}  // namespace

std::unique_ptr<Model> MakeLlama3(const config::Model& config, const config::Quantize& quantize, ModelSpec spec) {
  return std::make_unique<Llama3>(config, quantize, std::move(spec));
}

}  // namespace titan
