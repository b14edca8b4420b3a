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

TEST(FunctionTest, WhatIsSavedCanBeListed) {
  const at::Tensor x = Three();
  std::vector<c10::Storage> saved;
  TensorVector out;
  {
    const SavedScope scope(&saved);
    out = SquareAndDouble(x);
    SquareAndDouble(x.narrow(0, 0, 1));  // another view of x, and another square
    const SavedScope inner(nullptr);
    SquareAndDouble(x);
  }
  SquareAndDouble(x);
  ASSERT_EQ(saved.size(), 3u);
  EXPECT_EQ(saved[0].data(), x.storage().data());
  EXPECT_EQ(saved[1].data(), out[0].storage().data());
}

// An operator that counts how often it computes.
at::Tensor CountedSquare(const at::Tensor& x, int& count) {
  return ApplyFunction(
      {x},
      [&](const TensorVector& in) -> Recorded {
        ++count;
        const at::Tensor square = in[0] * in[0];
        return {.outputs = {square}, .saved = {in[0], square, 2 * in[0]}};
      },
      [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
        EXPECT_TRUE(at::equal(saved[1], saved[0] * saved[0]));
        return {saved[2] * gradients[0]};
      })[0];
}

TEST(FunctionTest, AKeptOperatorRunsOnce) {
  int inner = 0, outer = 0;
  KeptRecords kept;
  // ((x^2)^2)^2, of which the first and the last square are kept.
  const auto run = [&](const at::Tensor& x) {
    const auto keep = [&](const at::Tensor& in) {
      const KeepScope scope(&kept);
      return CountedSquare(in, outer);
    };
    return keep(CountedSquare(keep(x), inner));
  };
  at::Tensor first;
  {
    const c10::AutoGradMode no_grad(false);
    first = run(Three());
  }
  EXPECT_FALSE(kept.empty());
  kept.Rewind();
  const at::Tensor x = Three();
  const at::Tensor second = run(x);
  EXPECT_TRUE(kept.empty());
  EXPECT_EQ(outer, 2);
  EXPECT_EQ(inner, 2);
  EXPECT_TRUE(at::equal(first, second));
  EXPECT_FALSE(first.requires_grad());
  second.sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), at::full({2}, 8 * 2187.0, at::kDouble)));  // 8 x^7
}

TEST(FunctionTest, AnOutputThatNobodyReadsIsNotKept) {
  int count = 0;
  KeptRecords kept;
  const KeepScope scope(&kept);
  {
    const c10::AutoGradMode no_grad(false);
    kept.ForgetOutputs();
    EXPECT_TRUE(at::equal(CountedSquare(Three(), count), at::full({2}, 9.0, at::kDouble)));
  }
  kept.Rewind();
  const at::Tensor x = Three(), y = CountedSquare(x, count);
  EXPECT_EQ(count, 1);
  EXPECT_TRUE(at::equal(y, at::full({2}, 0.0, at::kDouble)));
  EXPECT_EQ(y.storage().nbytes(), sizeof(double));
  y.sum().backward();  // reads the square that was saved
  EXPECT_TRUE(at::equal(x.grad(), at::full({2}, 6.0, at::kDouble)));
}

TEST(FunctionTest, WhatIsKeptDoesNotHoldItsInput) {
  int count = 0;
  KeptRecords kept;
  at::Tensor x = Three();
  const c10::AutoGradMode no_grad(false);
  const KeepScope scope(&kept);
  CountedSquare(x, count);
  ApplyComposite({x}, [](const TensorVector& in) { return in[0] * in[0]; });
  EXPECT_EQ(x.use_count(), 1);
  EXPECT_EQ(x.storage().use_count(), 1);
}

TEST(FunctionTest, AKeptCompositeRunsOnceAndHasTheSameGradient) {
  int count = 0;
  const auto run = [&](const at::Tensor& a, const at::Tensor& b) {
    return ApplyComposite({a * 2, b * 3}, [&](const TensorVector& in) {
      ++count;
      return (in[0].view({1, 2}) * in[1].exp()).squeeze(0);
    });
  };
  const at::Tensor a = Three(), b = Three();
  const at::Tensor expected = run(a, b);
  expected.sum().backward();
  count = 0;

  KeptRecords kept;
  const KeepScope scope(&kept);
  const at::Tensor same_a = Three(), same_b = Three();
  {
    const c10::AutoGradMode no_grad(false);
    EXPECT_TRUE(at::equal(run(same_a, same_b), expected));
  }
  kept.Rewind();
  const at::Tensor again = run(same_a, same_b);
  EXPECT_EQ(count, 1);
  EXPECT_TRUE(at::equal(again, expected));
  again.sum().backward();
  EXPECT_TRUE(at::equal(same_a.grad(), a.grad()));
  EXPECT_TRUE(at::equal(same_b.grad(), b.grad()));
}

}  // namespace
}  // namespace titan
