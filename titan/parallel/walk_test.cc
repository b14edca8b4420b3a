#include "titan/parallel/walk.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>

#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace titan {
namespace {

constexpr int64_t kVocab = 11;
constexpr int64_t kDim = 4;

// x (B, S, n), weight (n, m) -> (B, S, m).
at::Tensor Product(const at::Tensor& x, const at::Tensor& weight) {
  return at::mm(x.reshape({-1, x.size(2)}), weight).reshape({x.size(0), x.size(1), weight.size(1)});
}

class ToyEmbedding : public Block {
 public:
  ToyEmbedding() : Block({BlockKind::kEmbedding, "embedding", {}, {}}) {}
  at::Tensor Forward(const at::Tensor& x, absl::Span<const at::Tensor> weights, const BatchContext&) const override {
    return at::embedding(weights[0], x);
  }
};

class ToyLayer : public Block {
 public:
  ToyLayer() : Block({BlockKind::kLayer, "layer", {}, {}}) {}
  at::Tensor Forward(const at::Tensor& x, absl::Span<const at::Tensor> weights, const BatchContext&) const override {
    return x + at::tanh(Product(x, weights[0])) * weights[1];
  }
};

// Its projection is the embedding's table.
class ToyHead : public HeadBlock {
 public:
  ToyHead() : HeadBlock({BlockKind::kHead, "head", {}, {"table"}}) {}
  at::Tensor Forward(const at::Tensor& x, absl::Span<const at::Tensor> weights, const BatchContext&) const override {
    return Product(x, weights[0].t());
  }
  at::Tensor ForwardLossSum(const at::Tensor& x, const at::Tensor& labels, absl::Span<const at::Tensor> weights,
                            const BatchContext& context) const override {
    return at::cross_entropy_loss(Forward(x, weights, context).reshape({-1, kVocab}), labels.reshape({-1}), {},
                                  /*reduction=*/2);
  }
};

class ToyModel : public Model {
 public:
  ToyModel() : Model(ModelSpec()) {
    blocks_.push_back(std::make_unique<ToyEmbedding>());
    blocks_.push_back(std::make_unique<ToyLayer>());
    blocks_.push_back(std::make_unique<ToyLayer>());
    blocks_.push_back(std::make_unique<ToyHead>());
  }
  BatchContext MakeContext(const at::Tensor&, const ContextOptions&) const override { return {}; }
};

// Pseudo-random but fixed values.
at::Tensor Values(at::IntArrayRef shape, double phase) {
  int64_t size = 1;
  for (const int64_t extent : shape) size *= extent;
  return at::arange(size, at::kDouble).mul(1.7).add(phase).sin().reshape(shape);
}

class ToyParameters : public BlockParameters {
 public:
  ToyParameters()
      : table_(Values({kVocab, kDim}, 0)),
        weights_{{table_},
                 {Values({kDim, kDim}, 1), Values({kDim}, 2)},
                 {Values({kDim, kDim}, 3), Values({kDim}, 4)},
                 {table_}} {
    for (const auto& block : weights_) {
      gradients.emplace_back();
      for (const at::Tensor& weight : block) gradients.back().push_back(at::zeros_like(weight));
    }
  }

  std::vector<at::Tensor> Weights(size_t block) override { return weights_[block]; }
  void Release(size_t block) override { last_is_release[block] = true; }
  void AddGradients(size_t block, std::vector<at::Tensor> added) override {
    order.push_back(block);
    last_is_release[block] = false;
    for (size_t i = 0; i < added.size(); ++i) gradients[block][i].add_(added[i]);
  }

  std::vector<std::vector<at::Tensor>> gradients;
  std::vector<size_t> order;  // of the blocks whose gradients came
  std::vector<bool> last_is_release = std::vector<bool>(4);

 private:
  at::Tensor table_;
  std::vector<std::vector<at::Tensor>> weights_;
};

Microbatch MakeMicrobatch() {
  const at::Tensor tokens = at::arange(10).remainder(kVocab).reshape({2, 5});
  at::Tensor labels = at::arange(3, 13).remainder(kVocab).reshape({2, 5});
  labels.select(0, 1).select(0, 4).fill_(-100);
  return {tokens, labels, {}};
}

// The same function as one autograd graph over all blocks.
std::pair<at::Tensor, std::vector<std::vector<at::Tensor>>> OneGraph(const ToyModel& model, double scale) {
  ToyParameters parameters;
  std::vector<std::vector<at::Tensor>> leaves;
  for (size_t i = 0; i < model.blocks().size(); ++i) {
    leaves.emplace_back();
    for (const at::Tensor& weight : parameters.Weights(i)) {
      leaves.back().push_back(weight.detach().requires_grad_(true));
    }
  }
  const Microbatch microbatch = MakeMicrobatch();
  at::Tensor x = microbatch.tokens;
  for (size_t i = 0; i + 1 < leaves.size(); ++i) x = model.blocks()[i]->Forward(x, leaves[i], microbatch.context);
  const at::Tensor loss = model.head().ForwardLossSum(x, microbatch.labels, leaves.back(), microbatch.context);
  (loss * scale).backward();
  for (auto& block : leaves) {
    for (at::Tensor& leaf : block) leaf = leaf.grad();
  }
  return {loss.detach(), leaves};
}

TEST(WalkTest, EqualsOneGraphWithAnyRecomputation) {
  const ToyModel model;
  const auto [expected_loss, expected] = OneGraph(model, 0.25);
  const auto none = Recompute::kNothing, cheap = Recompute::kCheap, all = Recompute::kAll,
             elementwise = Recompute::kElementwise;
  for (const auto& recompute : std::vector<std::vector<Recompute>>{{none, none, none, none},
                                                                   {none, all, all, none},
                                                                   {none, all, none, none},
                                                                   {none, cheap, cheap, none},
                                                                   {none, elementwise, cheap, none},
                                                                   {cheap, cheap, all, cheap},
                                                                   {all, all, all, all}}) {
    ToyParameters parameters;
    const at::Tensor loss = ForwardBackward(model, parameters, MakeMicrobatch(), 0.25, recompute);
    EXPECT_TRUE(at::equal(loss, expected_loss));
    EXPECT_EQ(parameters.order, (std::vector<size_t>{3, 2, 1, 0}));
    for (size_t i = 0; i < expected.size(); ++i) {
      for (size_t j = 0; j < expected[i].size(); ++j) {
        EXPECT_TRUE(parameters.gradients[i][j].allclose(expected[i][j], 1e-13, 1e-13)) << i << " " << j;
      }
    }
  }
}

TEST(WalkTest, ReleasesWeightsWhenTheLastGradientIsThere) {
  const ToyModel model;
  const std::vector<Recompute> recompute(4, Recompute::kNothing);
  const std::vector<bool> all(4, true);
  for (const bool split : {false, true}) {
    ToyParameters parameters;
    StageWalk walk(model, parameters, 0, 4, MakeMicrobatch(), recompute, split);
    const at::Tensor loss = walk.Forward(at::Tensor());
    if (split) {
      walk.BackwardInput(at::ones_like(loss));
      walk.BackwardWeight();
    } else {
      walk.Backward(at::ones_like(loss));
    }
    EXPECT_EQ(parameters.last_is_release, all) << split;
  }
}

TEST(WalkTest, AddsUpOverMicrobatches) {
  const ToyModel model;
  const std::vector<Recompute> recompute(4, Recompute::kNothing);
  ToyParameters once, twice;
  ForwardBackward(model, once, MakeMicrobatch(), 2.0, recompute);
  ForwardBackward(model, twice, MakeMicrobatch(), 1.0, recompute);
  ForwardBackward(model, twice, MakeMicrobatch(), 1.0, recompute);
  EXPECT_TRUE(twice.gradients[1][0].allclose(once.gradients[1][0], 1e-13, 1e-13));
}

TEST(WalkTest, LossAndLogitsWithoutGradients) {
  const ToyModel model;
  ToyParameters parameters;
  const Microbatch microbatch = MakeMicrobatch();
  std::vector<at::Tensor> hidden;
  const at::Tensor logits = ForwardLogits(model, parameters, microbatch, &hidden);  // (2, 5, kVocab)
  EXPECT_FALSE(logits.requires_grad());
  EXPECT_EQ(hidden.size(), 3);
  const at::Tensor loss = at::cross_entropy_loss(logits.reshape({-1, kVocab}), microbatch.labels.reshape({-1}), {}, 2);
  EXPECT_TRUE(at::equal(ForwardLossSum(model, parameters, microbatch), loss));
  EXPECT_TRUE(parameters.order.empty());
}

// What a stage hands on carries no graph, so that nothing of it stays alive.
TEST(WalkTest, StagesForwardAloneGiveTheLossAndKeepNothing) {
  const ToyModel model;
  ToyParameters parameters;
  const Microbatch microbatch = MakeMicrobatch();
  const at::Tensor hidden = ForwardStage(model, parameters, 0, 2, microbatch, at::Tensor());
  EXPECT_FALSE(hidden.requires_grad());
  EXPECT_EQ(hidden.use_count(), 1);
  const at::Tensor loss = ForwardStage(model, parameters, 2, 4, microbatch, hidden);
  EXPECT_FALSE(loss.requires_grad());
  EXPECT_EQ(hidden.use_count(), 1);
  EXPECT_TRUE(at::equal(loss, ForwardLossSum(model, parameters, microbatch)));
  const std::vector<Recompute> recompute(4, Recompute::kNothing);
  StageWalk walk(model, parameters, 0, 4, microbatch, recompute);
  EXPECT_TRUE(at::equal(loss, walk.Forward(at::Tensor())));
}

}  // namespace
}  // namespace titan
