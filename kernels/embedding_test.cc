#include "kernels/embedding.h"

#include <ATen/Parallel.h>
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

TEST(EmbeddingTest, EmptyBatchAndBadIndices) {
  const at::Tensor table = Normal({4, 3}, 1);
  EXPECT_EQ(Embedding(Integers(4, {0, 7}, 1), table).sizes(), at::IntArrayRef({0, 7, 3}));
  EXPECT_THROW(Embedding(at::tensor(std::vector<int64_t>{0, 4}), table), c10::IndexError);
  EXPECT_THROW(Embedding(at::tensor(std::vector<int64_t>{-1}), table), c10::IndexError);
}

}  // namespace
}  // namespace titan
