#include "kernels/embedding.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/tensor.h>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"

namespace titan {
namespace {

TEST(EmbeddingTest, MatchesOneHotProduct) {
  for (const auto& [vocab, dim] : {std::pair<int64_t, int64_t>{1, 1}, {7, 5}, {300, 33}}) {
    const at::Tensor indices = Integers(vocab, {4, 29}, 3);
    const std::vector<at::Tensor> inputs = {Normal({vocab, dim}, 1)};
    const auto actual = [&](const auto& in) { return Embedding(indices.to(in[0].device()), in[0]); };
    const auto reference = [&, classes = vocab](const auto& in) {
      return at::matmul(at::one_hot(indices, classes).to(at::kDouble), in[0]);
    };
    ExpectMatchesReference(inputs, at::kFloat, 1e-6, actual, reference);
    ExpectMatchesReference(inputs, at::kDouble, 1e-14, actual, reference);
    // One rounding of a float32 sum, however often a row is used.
    ExpectMatchesReference(inputs, at::kBFloat16, 4e-3, actual, reference);
  }
}

TEST(EmbeddingTest, GradientDoesNotDependOnThreads) {
  std::vector<at::Tensor> gradients;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    const at::Tensor table = Normal({512, 16}, 1).to(at::kFloat).requires_grad_(true);
    Embedding(Integers(512, {8, 1000}, 3), table).backward(Normal({8, 1000, 16}, 4).to(at::kFloat));
    gradients.push_back(table.grad());
  }
  EXPECT_TRUE(at::equal(gradients[0], gradients[1]));
  EXPECT_TRUE(at::equal(gradients[0], gradients[2]));
}

// What backward gives, added to what is there: in the dtype of sums, and in others by way of a whole gradient.
TEST(EmbeddingTest, AddsItsGradient) {
  for (const at::Device device : TestDevices()) {
    // 9 rows for 120 tokens: rows that occur more often than a thread of the GPU loads at once. 3 columns: no vectors.
    for (const auto& [vocab, dim] : {std::pair<int64_t, int64_t>{9, 8}, {300, 3}, {1, 256}}) {
      for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
        const at::Tensor indices = Integers(vocab, {4, 30}, 3), dout = Normal({4, 30, dim}, 4).to(dtype);
        const at::Tensor before = Normal({vocab, dim}, 5);
        const at::Tensor expected = before + at::matmul(at::one_hot(indices.view({-1}), vocab).t().to(at::kDouble),
                                                        dout.to(at::kDouble).view({-1, dim}));
        const at::ScalarType wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
        for (const at::ScalarType sum_dtype : {wide, at::kBFloat16}) {
          const at::Tensor sum = before.to(device, sum_dtype, /*non_blocking=*/false, /*copy=*/true);
          AddEmbeddingGradient(indices.to(device), dout.to(device), sum);
          const double tolerance = sum_dtype == at::kBFloat16 ? 8e-3 : sum_dtype == at::kDouble ? 1e-14 : 1e-6;
          EXPECT_LE(RelativeError(sum.cpu(), expected), tolerance) << device << dtype << sum_dtype << vocab;
        }
      }
    }
    const at::Tensor none = Normal({4, 3}, 1).to(device);
    AddEmbeddingGradient(Integers(4, {0}, 1).to(device), Normal({0, 3}, 1).to(device), none);
    EXPECT_TRUE(at::equal(none.cpu(), Normal({4, 3}, 1)));
  }
}

TEST(EmbeddingTest, LeavesItsGradientToWhoTakesIt) {
  const at::Tensor table = Normal({6, 4}, 1).requires_grad_(true), indices = Integers(6, {2, 5}, 2);
  const at::Tensor dout = Normal({2, 5, 4}, 3);
  at::Tensor taken;
  Embedding(indices, table, [&](const at::Tensor& weight, const at::Tensor& gradient) {
    EXPECT_TRUE(weight.is_same(table));
    taken = gradient;
  }).backward(dout);
  EXPECT_TRUE(at::equal(taken, dout));
  EXPECT_FALSE(table.grad().defined());
}

TEST(EmbeddingTest, EmptyBatchAndBadIndices) {
  const at::Tensor table = Normal({4, 3}, 1);
  EXPECT_EQ(Embedding(Integers(4, {0, 7}, 1), table).sizes(), at::IntArrayRef({0, 7, 3}));
  EXPECT_THROW(Embedding(at::tensor(std::vector<int64_t>{0, 4}), table), c10::IndexError);
  EXPECT_THROW(Embedding(at::tensor(std::vector<int64_t>{-1}), table), c10::IndexError);
}

}  // namespace
}  // namespace titan
