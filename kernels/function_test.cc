#include "kernels/function.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>

#include <memory>

#include "gtest/gtest.h"

namespace titan {
namespace {

at::Tensor Three() { return at::full({2}, 3.0, at::kDouble).requires_grad_(true); }

// (x^2, 2 x) of x, with the square itself among what is saved.
TensorVector SquareAndDouble(const at::Tensor& x, const std::shared_ptr<int>& captured = nullptr) {
  return ApplyFunction(
      {x},
      [](const TensorVector& in) -> Recorded {
        const at::Tensor square = in[0] * in[0];
        return {.outputs = {square, 2 * in[0]}, .saved = {in[0], square}};
      },
      [captured](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
        EXPECT_TRUE(at::equal(saved[1], saved[0] * saved[0]));
        return {2 * saved[0] * gradients[0] + 2 * gradients[1]};
      });
}

TEST(FunctionTest, BackwardGivesTheGradient) {
  const at::Tensor x = Three();
  const TensorVector out = SquareAndDouble(x);
  (out[0] + 10 * out[1]).sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), at::full({2}, 26.0, at::kDouble)));
}

TEST(FunctionTest, AnUnusedOutputHasZeroGradient) {
  const at::Tensor x = Three();
  SquareAndDouble(x)[0].sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), at::full({2}, 6.0, at::kDouble)));
}

TEST(FunctionTest, RecordsNothingWithoutGradients) {
  c10::AutoGradMode no_grad(false);
  EXPECT_FALSE(SquareAndDouble(Three())[0].requires_grad());
}

// An output among the saved tensors must not hold its own graph.
TEST(FunctionTest, TheGraphIsFreed) {
  const auto captured = std::make_shared<int>(0);
  {
    const TensorVector out = SquareAndDouble(Three(), captured);
    EXPECT_GT(captured.use_count(), 1);
  }
  EXPECT_EQ(captured.use_count(), 1);
}

}  // namespace
}  // namespace titan
