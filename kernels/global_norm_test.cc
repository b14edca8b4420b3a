#include "kernels/global_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace titan {
namespace {

// 1/sqrt(k+1) for k below `size`: the norm is the root of a harmonic number.
at::Tensor Values(int64_t size, at::ScalarType dtype) { return at::arange(1, size + 1, at::kDouble).rsqrt().to(dtype); }

TEST(GlobalNormTest, IsThatOfOneLongVector) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    double squares = 0;
    std::vector<at::Tensor> tensors = {Values(100'000, dtype), Values(1, dtype), Values(33, dtype), Values(0, dtype)};
    for (const at::Tensor& tensor : tensors) {
      const at::Tensor wide = tensor.to(at::kDouble);
      for (int64_t i = 0; i < wide.numel(); ++i) squares += std::pow(wide.const_data_ptr<double>()[i], 2);
    }
    const at::Tensor norm = GlobalNorm(tensors);
    EXPECT_EQ(norm.scalar_type(), at::kDouble);
    EXPECT_NEAR(norm.item<double>(), std::sqrt(squares), 1e-12);
  }
}

TEST(GlobalNormTest, KeepsSmallValuesBesideLargeOnes) {
  // In fp32 the sum 1e8 + 1e4 * 1 would lose the ones.
  const std::vector<at::Tensor> tensors = {at::full({1}, 1e4f), at::full({10'000}, 1.0f)};
  EXPECT_DOUBLE_EQ(GlobalNorm(tensors).item<double>(), std::sqrt(1e8 + 1e4));
}

TEST(GlobalNormTest, DoesNotOverflowInFp32) {
  EXPECT_DOUBLE_EQ(GlobalNorm({at::full({4}, 0x1p100f)}).item<double>(), 0x1p101);
}

TEST(GlobalNormTest, DoesNotDependOnTheNumberOfThreads) {
  const int threads = at::get_num_threads();
  const std::vector<at::Tensor> tensors = {Values(1'000'000, at::kFloat), Values(77'777, at::kFloat)};
  at::set_num_threads(1);
  const double one = GlobalNorm(tensors).item<double>();
  at::set_num_threads(3);
  const double many = GlobalNorm(tensors).item<double>();
  at::set_num_threads(threads);
  EXPECT_EQ(one, many);
}

TEST(GlobalNormTest, FindsTheFirstTensorThatIsNotFinite) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<at::Tensor> tensors = {at::full({3}, 1.0f), at::full({3}, 1.0f), at::full({3}, nan)};
  EXPECT_EQ(FirstNonFinite(tensors), 2u);
  EXPECT_FALSE(std::isfinite(GlobalNorm(tensors).item<double>()));
  tensors[1][2] = inf;
  EXPECT_EQ(FirstNonFinite(tensors), 1u);
  EXPECT_EQ(FirstNonFinite({tensors[0]}), std::nullopt);
}

}  // namespace
}  // namespace titan
