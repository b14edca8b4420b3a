#include "kernels/swiglu.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>

#include <cmath>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"

namespace titan {
namespace {

TEST(SwiGluTest, MatchesReference) {
  const std::vector<std::vector<int64_t>> shapes = {{1}, {3, 17}, {2, 100, 333}, {4, 50, 256}, {0, 4}};
  for (const auto& shape : shapes) {
    const std::vector<at::Tensor> inputs = {Normal(shape, 1) * 4, Normal(shape, 2)};
    const auto actual = [](const auto& in) { return SwiGlu(in[0], in[1]); };
    const auto reference = [](const auto& in) { return in[0] / (in[0].neg().exp() + 1) * in[1]; };
    ExpectMatchesReference(inputs, at::kFloat, 1e-6, actual, reference);
    ExpectMatchesReference(inputs, at::kDouble, 1e-14, actual, reference);
    ExpectMatchesReference(inputs, at::kBFloat16, 1e-2, actual, reference);
  }
}

TEST(SwiGluTest, ExtremeGatesStayFinite) {
  for (const float gate : {-1e30f, -200.0f, -88.0f, 88.0f, 200.0f, 1e30f}) {
    const at::Tensor a = at::full({32}, gate), b = at::full({32}, 2.0f);
    a.requires_grad_(true);
    const at::Tensor y = SwiGlu(a, b);
    y.sum().backward();
    const float expected = gate > 0 ? 2 * gate : 0;
    EXPECT_LE(std::abs(y[0].item<float>() - expected), std::abs(expected) * 1e-6f + 1e-6f) << gate;
    EXPECT_NEAR(a.grad()[0].item<float>(), gate > 0 ? 2.0f : 0.0f, 1e-6f) << gate;
  }
}

TEST(SwiGluTest, RefusesDifferentShapes) { EXPECT_THROW(SwiGlu(Normal({4, 8}, 1), Normal({8}, 2)), c10::Error); }

}  // namespace
}  // namespace titan
