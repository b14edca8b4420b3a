#include "kernels/linear_cross_entropy.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

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
  // 20000 words: 128 rows of float32 logits are one chunk of 8 MiB or more, so 300 rows are several on the CPU. Odd
  // vocabularies are read word by word on a GPU; 40968 bf16 words in vectors, more than its block reads at once.
  for (const Case& c : {Case{1, 1, 2}, Case{37, 19, 53}, Case{300, 8, 20000}, Case{64, 32, 129}, Case{9, 4, 40968},
                        Case{9, 4, 40969}}) {
    const at::Tensor labels = LabelsWithGaps(c.vocab, c.rows, 7);
    const std::vector<at::Tensor> inputs = {Normal({c.rows, c.dim}, 1), Normal({c.vocab, c.dim}, 2)};
    const auto actual = [&](const auto& in) { return LinearCrossEntropy(in[0], in[1], labels.to(in[0].device())); };
    const auto reference = [&](const auto& in) { return Reference(in[0], in[1], labels); };
    ExpectMatchesReference(inputs, at::kFloat, 2e-6, actual, reference);
    ExpectMatchesReference(inputs, at::kDouble, 1e-13, actual, reference);
    ExpectMatchesReference(inputs, at::kBFloat16, 2e-2, actual, reference);
  }
}

TEST(LinearCrossEntropyTest, NoValidLabelIsZero) {
  for (const at::Device device : TestDevices()) {
    const at::Tensor hidden = Normal({5, 4}, 1).to(device).requires_grad_(true);
    const at::Tensor weight = Normal({6, 4}, 2).to(device).requires_grad_(true);
    const at::Tensor labels = at::full({5}, kIgnoredLabel, at::TensorOptions(device).dtype(at::kLong));
    const at::Tensor loss = LinearCrossEntropy(hidden, weight, labels);
    loss.backward();
    EXPECT_EQ(loss.item<double>(), 0);
    EXPECT_EQ(hidden.grad().abs().sum().item<double>(), 0);
    EXPECT_EQ(weight.grad().abs().sum().item<double>(), 0);
  }
}

TEST(LinearCrossEntropyTest, NoRows) {
  const at::Tensor weight = Normal({6, 4}, 2).requires_grad_(true);
  const at::Tensor loss = LinearCrossEntropy(at::zeros({0, 4}, at::kDouble), weight, at::zeros({0}, at::kLong));
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0);
  EXPECT_EQ(weight.grad().abs().sum().item<double>(), 0);

  const at::Tensor hidden = at::zeros({0, 4}, at::kDouble).requires_grad_(true);
  int calls = 0;
  const LossWeightGradient weight_gradient{.scale = at::full({}, 2.0, at::kDouble),
                                           .add = [&](const at::Tensor& x, const at::Tensor& dy) {
                                             EXPECT_EQ(at::matmul(dy.t(), x).sizes(), weight.sizes());
                                             ++calls;
                                           }};
  LinearCrossEntropy(hidden, weight, at::zeros({0}, at::kLong), &weight_gradient);
  EXPECT_EQ(calls, 1);
}

TEST(LinearCrossEntropyTest, LargeLogitsStayFinite) {
  const at::Tensor hidden = (Normal({9, 4}, 1) * 1e4).to(at::kFloat), weight = Normal({30, 4}, 2).to(at::kFloat);
  const at::Tensor labels = Integers(30, {9}, 3);
  const at::Tensor expected = Reference(hidden.to(at::kDouble), weight.to(at::kDouble), labels);
  for (const at::Device device : TestDevices()) {
    const at::Tensor loss = LinearCrossEntropy(hidden.to(device), weight.to(device), labels.to(device));
    EXPECT_LE(RelativeError(loss.cpu(), expected), 1e-6) << device;
  }
}

TEST(LinearCrossEntropyTest, SameLossWithoutGradients) {
  for (const at::Device device : TestDevices()) {
    const at::Tensor hidden = Normal({40, 8}, 1).to(device).requires_grad_(true),
                     weight = Normal({50, 8}, 2).to(device);
    const at::Tensor labels = LabelsWithGaps(50, 40, 3).to(device);
    const at::Tensor loss = LinearCrossEntropy(hidden, weight, labels);
    c10::AutoGradMode no_grad(false);
    const at::Tensor inference = LinearCrossEntropy(hidden, weight, labels);
    EXPECT_FALSE(inference.requires_grad());
    EXPECT_EQ(inference.item<double>(), loss.item<double>());
  }
}

struct Losses {
  at::Tensor sum, dhidden, dweight;
};

Losses Gradients(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels) {
  const at::Tensor h = hidden.detach().requires_grad_(true), w = weight.detach().requires_grad_(true);
  const at::Tensor loss = LinearCrossEntropy(h, w, labels);
  loss.backward();
  return {loss.detach(), h.grad(), w.grad()};
}

// The gradient that is told beforehand is in everything, and the weight's is given away.
TEST(LinearCrossEntropyTest, GivesTheGradientOfItsWeightAway) {
  constexpr double kScale = 1.0 / 700;
  for (const at::Device device : TestDevices()) {
    for (const int64_t rows : {300, 5}) {  // several chunks on the CPU, and one
      for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
        const at::Tensor hidden = Normal({rows, 8}, 1).to(device, dtype),
                         weight = Normal({20000, 8}, 2).to(device, dtype);
        const at::Tensor labels = LabelsWithGaps(20000, rows, 3).to(device);
        const Losses expected = Gradients(hidden, weight, labels);
        const at::Tensor h = hidden.detach().requires_grad_(true), w = weight.detach().requires_grad_(true);
        const at::Tensor scale = at::full({}, kScale, at::TensorOptions(device).dtype(at::kDouble));
        at::Tensor dweight = at::zeros(weight.sizes(), at::TensorOptions(device).dtype(at::kDouble));
        const LossWeightGradient weight_gradient{.scale = scale, .add = [&](const at::Tensor& x, const at::Tensor& dy) {
                                                   dweight += at::matmul(dy.to(at::kDouble).t(), x.to(at::kDouble));
                                                 }};
        const at::Tensor loss = LinearCrossEntropy(h, w, labels, &weight_gradient);
        loss.backward(scale.to(loss.scalar_type()));
        const double tolerance = dtype == at::kBFloat16 ? 1e-2 : dtype == at::kFloat ? 1e-6 : 1e-13;
        EXPECT_EQ(loss.item<double>(), expected.sum.item<double>());
        EXPECT_LE(RelativeError(h.grad(), expected.dhidden * kScale), tolerance) << device << dtype;
        EXPECT_LE(RelativeError(dweight, expected.dweight * kScale), tolerance) << device << dtype;
        EXPECT_FALSE(w.grad().defined());
      }
    }
  }
}

// A chunk is 1 GiB of logits there, too many for the float64 reference.
TEST(LinearCrossEntropyTest, ChunksOnTheGpuAddUp) {
  if (!at::globalContext().hasCUDA()) GTEST_SKIP() << "no GPU";
  constexpr int64_t kVocab = 1 << 17, kChunkRows = 4096, kRows = 2 * kChunkRows + 100;
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    const at::TensorOptions options = at::TensorOptions(at::kCUDA).dtype(dtype);
    const at::Tensor hidden = Normal({kRows, 8}, 1).to(options), weight = Normal({kVocab, 8}, 2).to(options);
    const at::Tensor labels = LabelsWithGaps(kVocab, kRows, 3).to(at::kCUDA);
    const Losses whole = Gradients(hidden, weight, labels), again = Gradients(hidden, weight, labels);
    EXPECT_TRUE(at::equal(whole.sum, again.sum));
    EXPECT_TRUE(at::equal(whole.dhidden, again.dhidden));
    EXPECT_TRUE(at::equal(whole.dweight, again.dweight));
    double sum = 0;
    std::vector<at::Tensor> dhidden;
    at::Tensor dweight = at::zeros(weight.sizes(), weight.options().dtype(at::kFloat));
    for (int64_t begin = 0; begin < kRows; begin += 1024) {  // one chunk each
      const int64_t count = std::min<int64_t>(1024, kRows - begin);
      const Losses part = Gradients(hidden.narrow(0, begin, count), weight, labels.narrow(0, begin, count));
      sum += part.sum.item<double>();
      dhidden.push_back(part.dhidden);
      dweight += part.dweight;
    }
    // Matrix products of other shapes sum in another order, 131072 terms at most.
    const double tolerance = dtype == at::kFloat ? 1e-4 : 1e-2;
    EXPECT_NEAR(whole.sum.item<double>() / sum, 1, 1e-5);
    EXPECT_LE(RelativeError(whole.dhidden, at::cat(dhidden)), tolerance) << dtype;
    EXPECT_LE(RelativeError(whole.dweight, dweight), tolerance) << dtype;
  }
}

TEST(LinearCrossEntropyTest, BadLabelsMakeNanOnTheGpu) {
  if (!at::globalContext().hasCUDA()) GTEST_SKIP() << "no GPU";
  const at::Tensor hidden = Normal({2, 4}, 1).to(at::kCUDA), weight = Normal({6, 4}, 2).to(at::kCUDA);
  for (const int64_t label : {int64_t{6}, int64_t{-1}, int64_t{1} << 40}) {
    at::Tensor labels = at::full({2}, 1, at::kLong);
    labels[1] = label;
    EXPECT_TRUE(std::isnan(Gradients(hidden, weight, labels.to(at::kCUDA)).sum.item<double>())) << label;
  }
}

TEST(LinearCrossEntropyTest, RefusesBadLabels) {
  const at::Tensor hidden = Normal({2, 4}, 1), weight = Normal({6, 4}, 2);
  EXPECT_THROW(LinearCrossEntropy(hidden, weight, at::full({2}, 6, at::kLong)), c10::IndexError);
  EXPECT_THROW(LinearCrossEntropy(hidden, weight, at::full({2}, -1, at::kLong)), c10::IndexError);
  EXPECT_THROW(LinearCrossEntropy(hidden, weight, at::full({3}, 1, at::kLong)), c10::Error);
}

}  // namespace
}  // namespace titan
