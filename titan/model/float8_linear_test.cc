#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>

#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"
#include "titan/config/experiment.pb.h"
#include "titan/model/linear.h"
#include "titan/model/precision.h"

namespace titan {
namespace {

struct Results {
  std::vector<at::Tensor> outputs, gradients;  // of x, then of the weights
};

// fp32 weights, so that nothing else rounds. `sums`: where the weights' gradients go; null: through autograd.
Results Compute(LinearPrecision precision, at::Device device, WeightGradients* sums = nullptr) {
  const auto leaf = [&](at::IntArrayRef shape, uint64_t seed) {
    return Normal(shape, seed).to(device, at::kFloat).requires_grad_(true);
  };
  const at::Tensor x = leaf({2, 32, 64}, 1);
  const std::vector<at::Tensor> weights = {leaf({48, 64}, 2), leaf({96, 64}, 3)};
  const std::vector<at::Tensor> y = Linears(x, {{weights[0], precision}, {weights[1], precision}}, sums);
  ((y[0] * leaf({2, 32, 48}, 4).detach()).sum() + (y[1] * leaf({2, 32, 96}, 5).detach()).sum()).backward();
  if (sums != nullptr) sums->Run();
  return {.outputs = {y[0].detach().cpu(), y[1].detach().cpu()},
          .gradients = {x.grad().cpu(), weights[0].grad().cpu(), weights[1].grad().cpu()}};
}

constexpr LinearPrecision kFloat8Precisions[] = {LinearPrecision::kFloat8Tensorwise, LinearPrecision::kFloat8Rowwise,
                                                 LinearPrecision::kFloat8RowwiseGwHp};

// e4m3 rounds a value by 2.5 % in the mean square, e5m2 by 5 %; independent errors of both factors add up in squares.
TEST(Float8LinearTest, IsNearTheExactProduct) {
  for (const at::Device device : TestDevices()) {
    const Results exact = Compute(LinearPrecision::kGiven, device);
    for (const LinearPrecision precision : kFloat8Precisions) {
      SCOPED_TRACE(testing::Message() << device << " precision " << static_cast<int>(precision));
      const Results float8 = Compute(precision, device);
      for (size_t i = 0; i < exact.outputs.size(); ++i) {
        const double error = RelativeError(float8.outputs[i], exact.outputs[i]);
        EXPECT_LE(error, 0.05) << i;
        EXPECT_GE(error, 0.01) << "not rounded at all? " << i;
      }
      for (size_t i = 0; i < exact.gradients.size(); ++i) {
        const double error = RelativeError(float8.gradients[i], exact.gradients[i]);
        if (precision == LinearPrecision::kFloat8RowwiseGwHp && i > 0) {
          EXPECT_LE(error, 1e-3) << "gradient of weight " << i;  // on a GPU with TF32 or without
          continue;
        }
        EXPECT_LE(error, precision == LinearPrecision::kFloat8Tensorwise ? 0.09 : 0.05) << i;
        EXPECT_GE(error, 0.02) << "not rounded at all? " << i;
      }
    }
  }
}

TEST(Float8LinearTest, WeightGradientsMayWait) {
  for (const at::Device device : TestDevices()) {
    for (const LinearPrecision precision : kFloat8Precisions) {
      const Results at_once = Compute(precision, device);
      for (const bool defers : {false, true}) {
        WeightGradients sums;
        sums.set_deferring(defers);
        const Results later = Compute(precision, device, &sums);
        for (size_t i = 0; i < later.gradients.size(); ++i) {
          EXPECT_TRUE(later.gradients[i].equal(at_once.gradients[i]))
              << device << " " << i << " precision " << static_cast<int>(precision);
        }
      }
    }
  }
}

BlockSpec Layer() {
  BlockSpec block;
  const auto add = [&](const char* name, std::vector<int64_t> shape) {
    ParameterSpec& parameter = block.parameters.emplace_back();
    parameter.name = name;
    parameter.shape = std::move(shape);
  };
  add("layers.3.attention_norm.weight", {4096});
  add("layers.3.attention.wq.weight", {4096, 4096});
  add("layers.3.attention.wk.weight", {1024, 4096});
  add("layers.3.feed_forward.w1.weight", {14336, 4096});
  return block;
}

TEST(PrecisionTest, FiltersByNameAndSize) {
  const BlockSpec block = Layer();
  const auto given = LinearPrecision::kGiven, float8 = LinearPrecision::kFloat8Tensorwise;
  config::Quantize quantize;
  EXPECT_EQ(PrecisionsOf(block, quantize), (std::vector{given, given, given, given}));
  config::Quantize::Float8& config = *quantize.mutable_linear()->mutable_float8();
  config.set_recipe_name(config::Quantize::Float8::RECIPE_NAME_TENSORWISE);
  EXPECT_EQ(PrecisionsOf(block, quantize), (std::vector{given, float8, float8, float8}));
  config.set_recipe_name(config::Quantize::Float8::RECIPE_NAME_ROWWISE);
  EXPECT_EQ(PrecisionsOf(block, quantize)[1], LinearPrecision::kFloat8Rowwise);
  config.set_recipe_name(config::Quantize::Float8::RECIPE_NAME_TENSORWISE);
  config.add_filter_fqns("auto_filter_small_kn");
  EXPECT_EQ(PrecisionsOf(block, quantize), (std::vector{given, float8, given, float8}));
  config.add_filter_fqns("layers.3.feed_forward");
  EXPECT_EQ(PrecisionsOf(block, quantize), (std::vector{given, float8, given, given}));
}

}  // namespace
}  // namespace titan
