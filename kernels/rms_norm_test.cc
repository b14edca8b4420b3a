#include "kernels/rms_norm.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"

namespace titan {
namespace {

constexpr double kEps = 1e-2;  // large, so that it shows

at::Tensor Reference(const at::Tensor& x, const at::Tensor& weight) {
  return x / (x.square().mean(-1, /*keepdim=*/true) + kEps).sqrt() * weight;
}

TEST(RmsNormTest, MatchesReference) {
  const std::vector<std::vector<int64_t>> shapes = {{1, 7},      {3, 5, 33},    {130, 64},  {2, 7, 256},
                                                    {300, 4096}, {2, 3, 16384}, {5, 40000}, {0, 16}};
  for (const auto& shape : shapes) {
    const std::vector<at::Tensor> inputs = {Normal(shape, 1), Normal({shape.back()}, 2)};
    const auto actual = [](const auto& in) { return RmsNorm(in[0], in[1], kEps); };
    const auto reference = [](const auto& in) { return Reference(in[0], in[1]); };
    ExpectMatchesReference(inputs, at::kFloat, 2e-6, actual, reference);
    ExpectMatchesReference(inputs, at::kDouble, 1e-14, actual, reference);
    ExpectMatchesReference(inputs, at::kBFloat16, 1e-2, actual, reference);
  }
}

TEST(RmsNormTest, AddMatchesReference) {
  for (const int64_t dim : {48, 51, 4096}) {
    const std::vector<at::Tensor> inputs = {Normal({3, 70, dim}, 1), Normal({3, 70, dim}, 2), Normal({dim}, 3)};
    const auto actual = [](const auto& in) {
      auto [y, sum] = AddRmsNorm(in[0], in[1], in[2], kEps);
      return at::cat({y, sum}, -1);
    };
    const auto reference = [](const auto& in) {
      const at::Tensor sum = in[0] + in[1];
      return at::cat({Reference(sum, in[2]), sum}, -1);
    };
    ExpectMatchesReference(inputs, at::kFloat, 2e-6, actual, reference);
    ExpectMatchesReference(inputs, at::kDouble, 1e-14, actual, reference);
    ExpectMatchesReference(inputs, at::kBFloat16, 1e-2, actual, reference);
  }
}

TEST(RmsNormTest, StridedInput) {
  const at::Tensor x = Normal({32, 20}, 1).t(), weight = Normal({32}, 2);  // (20, 32)
  EXPECT_LE(RelativeError(RmsNorm(x, weight, kEps), Reference(x, weight)), 1e-14);
}

// The order of the sums must not depend on how rows are handed to threads.
TEST(RmsNormTest, GradientsDoNotDependOnThreads) {
  std::vector<at::Tensor> gradients;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    const at::Tensor x = Normal({1000, 64}, 1).to(at::kFloat), weight = Normal({64}, 2).to(at::kFloat);
    weight.requires_grad_(true);
    RmsNorm(x, weight, kEps).sum().backward();
    gradients.push_back(weight.grad());
  }
  EXPECT_TRUE(at::equal(gradients[0], gradients[1]));
  EXPECT_TRUE(at::equal(gradients[0], gradients[2]));
}

TEST(RmsNormTest, RefusesWrongShapes) {
  EXPECT_THROW(RmsNorm(Normal({4, 8}, 1), Normal({4}, 2), kEps), c10::Error);
  EXPECT_THROW(AddRmsNorm(Normal({4, 8}, 1), Normal({8}, 1), Normal({8}, 2), kEps), c10::Error);
}

}  // namespace
}  // namespace titan
