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
#include "titan/model/linear.h"
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
  Llama3Layer(BlockSpec spec, const config::Model& config)
      : Block(std::move(spec)), head_dim_(config.head_dim()), norm_eps_(config.norm_eps()) {}

  // x (B, S, D) -> (B, S, D)
  at::Tensor Forward(const at::Tensor& x, absl::Span<const at::Tensor> weights,
                     const BatchContext& context) const override {
    CHECK_EQ(weights.size(), static_cast<size_t>(kNumWeights));
    const BlockParallelism& p = *context.parallelism;
    const at::Tensor h = p.GatherTokens(RmsNorm(x, weights[kAttentionNorm], norm_eps_), context);  // (B, S, D)
    const at::Tensor attended = p.ReduceScatterTokens(SelfAttention(h, weights, context), context);
    const auto [normed, sum] = AddRmsNorm(attended, x, weights[kFfnNorm], norm_eps_);
    const at::Tensor n = p.GatherTokens(normed, context);               // (B, S, D)
    const at::Tensor gate = Linear(n, weights[kW1], context.deferred);  // (B, S, F)
    const at::Tensor up = Linear(n, weights[kW3], context.deferred);    // (B, S, F)
    return sum + p.ReduceScatterTokens(Linear(SwiGlu(gate, up), weights[kW2], context.deferred), context);
  }

 private:
  // The order of the parameters in BuildModelSpec.
  enum Weight { kAttentionNorm, kWq, kWk, kWv, kWo, kFfnNorm, kW1, kW2, kW3, kNumWeights };

  at::Tensor SelfAttention(const at::Tensor& h, absl::Span<const at::Tensor> weights,
                           const BatchContext& context) const {
    const int64_t batch = h.size(0), sequence = h.size(1);
    const auto project = [&](Weight weight) {  // (B, S, heads, d)
      return Linear(h, weights[weight], context.deferred).view({batch, sequence, -1, head_dim_});
    };
    const at::Tensor q = Rope(project(kWq), context.rope_cos, context.rope_sin);
    const at::Tensor k = Rope(project(kWk), context.rope_cos, context.rope_sin);
    const at::Tensor o = context.parallelism->Attention(q, k, project(kWv), context);  // (B, S, H, d)
    return Linear(o.reshape({batch, sequence, -1}), weights[kWo], context.deferred);
  }

  const int64_t head_dim_;
  const double norm_eps_;
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
    const at::Tensor h = context.parallelism->GatherTokens(RmsNorm(x, weights[0], norm_eps_), context);  // (B, S, D)
    return context.parallelism->LinearCrossEntropy(h.reshape({-1, h.size(-1)}), weights[1], labels.reshape({-1}));
  }

 private:
  const double norm_eps_;
};

class Llama3 : public Model {
 public:
  Llama3(const config::Model& config, ModelSpec spec)
      : Model(std::move(spec)), frequencies_(RopeFrequencies(config.rope(), config.head_dim())) {
    for (const BlockSpec& block : spec_.blocks) {
      switch (block.kind) {
        case BlockKind::kEmbedding:
          blocks_.push_back(std::make_unique<Llama3Embedding>(block));
          break;
        case BlockKind::kLayer:
          blocks_.push_back(std::make_unique<Llama3Layer>(block, config));
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

std::unique_ptr<Model> MakeLlama3(const config::Model& config, ModelSpec spec) {
  return std::make_unique<Llama3>(config, std::move(spec));
}

}  // namespace titan
