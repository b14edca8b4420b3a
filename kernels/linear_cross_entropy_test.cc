#include "kernels/linear_cross_entropy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"

namespace titan {
namespace {

at::Tensor LabelsWithGaps(int64_t vocab, int64_t rows, uint64_t seed) {
  at::Tensor labels = Integers(vocab, {rows}, seed);
  return labels.masked_fill(Integers(4, {rows}, seed + 1).eq(0), kIgnoredLabel);
}

at::Tensor Reference(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels) {
  return at::cross_entropy_loss(at::matmul(hidden, weight.t()), labels, {}, /*reduction=*/2, kIgnoredLabel);
}

TEST(LinearCrossEntropyTest, MatchesReference) {
  struct Case {
    int64_t rows, dim, vocab;
  };
  // 20000 words: 128 rows of float32 logits are one chunk of 8 MiB or more, so 300 rows are several.
  for (const Case& c : {Case{1, 1, 2}, Case{37, 19, 53}, Case{300, 8, 20000}, Case{64, 32, 129}}) {
    const at::Tensor labels = LabelsWithGaps(c.vocab, c.rows, 7);
    const std::vector<at::Tensor> inputs = {Normal({c.rows, c.dim}, 1), Normal({c.vocab, c.dim}, 2)};
    const auto actual = [&](const auto& in) { return LinearCrossEntropy(in[0], in[1], labels); };
    const auto reference = [&](const auto& in) { return Reference(in[0], in[1], labels); };
    ExpectMatchesReference(inputs, at::kFloat, 2e-6, actual, reference);
    ExpectMatchesReference(inputs, at::kDouble, 1e-13, actual, reference);
    ExpectMatchesReference(inputs, at::kBFloat16, 2e-2, actual, reference);
  }
}

TEST(LinearCrossEntropyTest, NoValidLabelIsZero) {
  const at::Tensor hidden = Normal({5, 4}, 1).requires_grad_(true), weight = Normal({6, 4}, 2).requires_grad_(true);
  const at::Tensor loss = LinearCrossEntropy(hidden, weight, at::full({5}, kIgnoredLabel, at::kLong));
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0);
  EXPECT_EQ(hidden.grad().abs().sum().item<double>(), 0);
  EXPECT_EQ(weight.grad().abs().sum().item<double>(), 0);
}

TEST(LinearCrossEntropyTest, NoRows) {
  const at::Tensor weight = Normal({6, 4}, 2).requires_grad_(true);
  const at::Tensor loss = LinearCrossEntropy(at::zeros({0, 4}, at::kDouble), weight, at::zeros({0}, at::kLong));
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0);
  EXPECT_EQ(weight.grad().abs().sum().item<double>(), 0);
}

TEST(LinearCrossEntropyTest, LargeLogitsStayFinite) {
  const at::Tensor hidden = (Normal({9, 4}, 1) * 1e4).to(at::kFloat), weight = Normal({30, 4}, 2).to(at::kFloat);
  const at::Tensor labels = Integers(30, {9}, 3);
  EXPECT_LE(RelativeError(LinearCrossEntropy(hidden, weight, labels),
                          Reference(hidden.to(at::kDouble), weight.to(at::kDouble), labels)),
            1e-6);
}

TEST(LinearCrossEntropyTest, SameLossWithoutGradients) {
  const at::Tensor hidden = Normal({40, 8}, 1).requires_grad_(true), weight = Normal({50, 8}, 2);
  const at::Tensor labels = LabelsWithGaps(50, 40, 3);
  const at::Tensor loss = LinearCrossEntropy(hidden, weight, labels);
  c10::AutoGradMode no_grad(false);
  const at::Tensor inference = LinearCrossEntropy(hidden, weight, labels);
  EXPECT_FALSE(inference.requires_grad());
  EXPECT_EQ(inference.item<double>(), loss.item<double>());
}

TEST(LinearCrossEntropyTest, RefusesBadLabels) {
  const at::Tensor hidden = Normal({2, 4}, 1), weight = Normal({6, 4}, 2);
  EXPECT_THROW(LinearCrossEntropy(hidden, weight, at::full({2}, 6, at::kLong)), c10::IndexError);
  EXPECT_THROW(LinearCrossEntropy(hidden, weight, at::full({2}, -1, at::kLong)), c10::IndexError);
  EXPECT_THROW(LinearCrossEntropy(hidden, weight, at::full({3}, 1, at::kLong)), c10::Error);
}

}  // namespace
}  // namespace titan
