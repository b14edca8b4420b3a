#include "kernels/global_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"

namespace titan {
namespace {

// 1/sqrt(k+1) for k below `size`: the norm is the root of a harmonic number.
at::Tensor Values(int64_t size, at::ScalarType dtype) { return at::arange(1, size + 1, at::kDouble).rsqrt().to(dtype); }

void ExpectNormOfOneLongVector(const std::vector<at::Tensor>& tensors) {
  double squares = 0;
  for (const at::Tensor& tensor : tensors) {
    const at::Tensor wide = tensor.to(at::kDouble);
    for (int64_t i = 0; i < wide.numel(); ++i) squares += std::pow(wide.const_data_ptr<double>()[i], 2);
  }
  for (const at::Device device : TestDevices()) {
    std::vector<at::Tensor> there;
    for (const at::Tensor& tensor : tensors) there.push_back(tensor.to(device));
    const at::Tensor norm = GlobalNorm(there);
    EXPECT_EQ(norm.scalar_type(), at::kDouble);
    EXPECT_EQ(norm.device(), device);
    EXPECT_NEAR(norm.item<double>(), std::sqrt(squares), 1e-12 * std::sqrt(squares));
    EXPECT_TRUE(at::equal(GlobalNorm(there), norm));
  }
}

TEST(GlobalNormTest, IsThatOfOneLongVector) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    ExpectNormOfOneLongVector({Values(100'003, dtype), Values(1, dtype), Values(33, dtype), Values(0, dtype)});
    ExpectNormOfOneLongVector({Values(65'536, dtype)});
    ExpectNormOfOneLongVector({Values(0, dtype)});
  }
}

// More tensors than one launch takes.
TEST(GlobalNormTest, ManySmallTensors) {
  std::vector<at::Tensor> tensors;
  for (int64_t i = 0; i < 1100; ++i) tensors.push_back(Values(i % 11, at::kFloat));
  ExpectNormOfOneLongVector(tensors);
}

TEST(GlobalNormTest, TakesTensorsThatDoNotBeginAt16Bytes) {
  for (const at::Device device : TestDevices()) {
    const at::Tensor ones = at::full({70'000}, 1.0f, at::TensorOptions(device));
    EXPECT_DOUBLE_EQ(GlobalNorm({ones.narrow(0, 1, 60'000), ones.narrow(0, 3, 400)}).item<double>(),
                     std::sqrt(60'400.0));
  }
}

TEST(GlobalNormTest, KeepsSmallValuesBesideLargeOnes) {
  // In fp32 the sum 1e8 + 1e4 * 1 would lose the ones.
  for (const at::Device device : TestDevices()) {
    const at::TensorOptions options(device);
    const std::vector<at::Tensor> tensors = {at::full({1}, 1e4f, options), at::full({10'000}, 1.0f, options)};
    EXPECT_DOUBLE_EQ(GlobalNorm(tensors).item<double>(), std::sqrt(1e8 + 1e4));
  }
}

TEST(GlobalNormTest, DoesNotOverflowInFp32) {
  for (const at::Device device : TestDevices()) {
    EXPECT_DOUBLE_EQ(GlobalNorm({at::full({4}, 0x1p100f, at::TensorOptions(device))}).item<double>(), 0x1p101);
  }
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
