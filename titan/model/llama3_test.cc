// What must hold for any weights. The goldens of whole models are in tools/forward_test.cc.

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"
#include "titan/model/init.h"
#include "titan/model/model.h"

namespace titan {
namespace {

config::Model SmallModel(bool tied = false) {
  config::Model model;
  model.set_name(config::Model::FAMILY_LLAMA3);
  model.set_dim(32);
  model.set_n_layers(2);
  model.set_n_heads(4);
  model.set_n_kv_heads(2);
  model.set_head_dim(8);
  model.set_ffn_hidden_dim(48);
  model.set_vocab_size(50);
  model.set_norm_eps(1e-5);
  model.mutable_rope()->set_theta(10000);
  model.set_enable_weight_tying(tied);
  return model;
}

std::vector<at::Tensor> Weights(const Model& model, size_t block, at::ScalarType dtype) {
  std::vector<at::Tensor> weights;
  for (const ParameterSpec& parameter : model.spec().blocks[block].parameters) {
    weights.push_back(InitialValue(parameter, 1).to(dtype));
  }
  for (const std::string& name : model.spec().blocks[block].shared_parameters) {
    const ParameterSpec& owner = model.spec().blocks[0].parameters[0];
    EXPECT_EQ(owner.name, name);
    weights.push_back(InitialValue(owner, 1).to(dtype));
  }
  return weights;
}

at::Tensor Logits(const Model& model, const at::Tensor& tokens, const at::Tensor& positions, at::ScalarType dtype) {
  const BatchContext context = model.MakeContext(positions, {.compute_dtype = dtype});
  at::Tensor x = tokens;
  for (size_t i = 0; i < model.blocks().size(); ++i)
    x = model.blocks()[i]->Forward(x, Weights(model, i, dtype), context);
  return x;
}

at::Tensor Tokens(int64_t rows, int64_t sequence) {
  return at::arange(rows * sequence, at::kLong).mul(37).remainder(50).view({rows, sequence});
}

at::Tensor Range(int64_t size) { return at::arange(size, at::kLong).unsqueeze(0); }

double MaxDifference(const at::Tensor& a, const at::Tensor& b) {
  return a.to(at::kDouble).sub(b.to(at::kDouble)).abs().max().item<double>();
}

TEST(Llama3Test, CreateNeedsAFamily) {
  const auto model = Model::Create(SmallModel());
  ASSERT_TRUE(model.ok());
  EXPECT_EQ((*model)->blocks().size(), 4u);
  EXPECT_EQ((*model)->head().spec().name, "head");
  config::Model other = SmallModel();
  other.set_name(config::Model::FAMILY_FLUX);
  EXPECT_EQ(Model::Create(other).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Llama3Test, EveryPrecision) {
  for (const bool tied : {false, true}) {
    const auto model = std::move(Model::Create(SmallModel(tied))).value();
    const at::Tensor positions = Range(11).expand({2, 11});
    const at::Tensor exact = Logits(*model, Tokens(2, 11), positions, at::kDouble);
    EXPECT_EQ(exact.scalar_type(), at::kDouble);
    EXPECT_LT(MaxDifference(Logits(*model, Tokens(2, 11), positions, at::kFloat), exact), 1e-5);
    const at::Tensor half = Logits(*model, Tokens(2, 11), positions, at::kBFloat16);
    EXPECT_EQ(half.scalar_type(), at::kFloat);  // logits are fp32
    EXPECT_LT(MaxDifference(half, exact), 0.1);
  }
}

// A document sees itself alone: packed in a row or in a row of its own, its logits are the same.
TEST(Llama3Test, PackedDocumentsAreIndependent) {
  const auto model = std::move(Model::Create(SmallModel())).value();
  const at::Tensor tokens = Tokens(1, 17);
  const at::Tensor packed = Logits(*model, tokens, at::cat({Range(5), Range(1), Range(11)}, 1), at::kDouble);
  int64_t begin = 0;
  for (const int64_t length : {5, 1, 11}) {
    const at::Tensor alone = Logits(*model, tokens.narrow(1, begin, length), Range(length), at::kDouble);
    EXPECT_LT(MaxDifference(packed.narrow(1, begin, length), alone), 1e-12) << begin;
    begin += length;
  }
}

TEST(Llama3Test, LossSumIsCrossEntropyOfLogits) {
  const auto model = std::move(Model::Create(SmallModel())).value();
  const std::vector<at::Tensor> weights = Weights(*model, 3, at::kDouble);
  const at::Tensor x = at::arange(2 * 9 * 32, at::kDouble).sin().view({2, 9, 32});
  const at::Tensor labels = Tokens(2, 9).clone();
  labels.narrow(1, 3, 2).fill_(-100);
  const at::Tensor logits = model->head().Forward(x, weights, {});
  const at::Tensor expected =
      at::cross_entropy_loss(logits.view({-1, 50}), labels.view({-1}), {}, /*reduction=*/2, -100);
  EXPECT_NEAR(model->head().ForwardLossSum(x, labels, weights, {}).item<double>(), expected.item<double>(), 1e-11);
}

}  // namespace
}  // namespace titan
