// What the ranks of tensor parallelism compute together, in float64, against one rank that has whole weights.

#include "titan/parallel/tensor_parallel.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "kernels/linear_cross_entropy.h"
#include "titan/model/linear.h"
#include "titan/parallel/loss_parallel.h"
#include "titan/parallel/multi_process_test.h"
#include "titan/parallel/overlapped_linear.h"

namespace titan {
namespace {

constexpr double kTolerance = 1e-12;
constexpr int64_t kDim = 5;

using Tensors = std::vector<at::Tensor>;

std::unique_ptr<Communicator> World(Transport& transport) {
  std::vector<int64_t> ranks(transport.world_size());
  std::iota(ranks.begin(), ranks.end(), 0);
  absl::StatusOr<std::unique_ptr<Communicator>> group = transport.NewGroup("world", ranks);
  EXPECT_TRUE(group.ok()) << group.status();
  return *std::move(group);
}

// The same on every rank, other for each seed; a leaf.
at::Tensor Numbers(at::IntArrayRef shape, int64_t seed) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::arange(count, at::kDouble).mul(0.7).add(static_cast<double>(seed)).sin().view(shape);
}

// Rank r's equal part of a dimension.
at::Tensor Part(const at::Tensor& whole, int64_t dimension, const Communicator& group) {
  const int64_t size = whole.size(dimension) / group.size();
  return whole.narrow(dimension, group.rank() * size, size);
}

at::Tensor Leaf(const at::Tensor& x) { return x.detach().clone().requires_grad_(true); }

double Difference(const Tensors& a, const Tensors& b) {
  double worst = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    EXPECT_EQ(a[i].sizes(), b[i].sizes()) << i;
    worst = std::max(worst, (a[i] - b[i]).abs().max().item<double>());
  }
  return worst;
}

bool SameBits(const Tensors& a, const Tensors& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const at::Tensor& x, const at::Tensor& y) { return at::equal(x, y); });
}

// y = (x w1^T * x w3^T) w2^T: two matrices split by columns with one input, one split by rows.
struct Network {
  at::Tensor x;           // (N, D)
  at::Tensor w1, w3, w2;  // (F, D), (F, D), (D, F)
  at::Tensor dy;          // (N, D)
};

enum class Mode { kGathered, kOverlapped, kWholeTokens };
constexpr Mode kModes[] = {Mode::kGathered, Mode::kOverlapped, Mode::kWholeTokens};

Network Whole(const Communicator& group) {
  const int64_t rows = 3 * group.size(), features = 2 * group.size();
  return {.x = Leaf(Numbers({rows, kDim}, 1)),
          .w1 = Leaf(Numbers({features, kDim}, 2)),
          .w3 = Leaf(Numbers({features, kDim}, 3)),
          .w2 = Leaf(Numbers({kDim, features}, 4)),
          .dy = Numbers({rows, kDim}, 5)};
}

// This rank's part of the tokens, unless every rank has all of them.
at::Tensor Tokens(const at::Tensor& whole, Mode mode, const Communicator& group) {
  return mode == Mode::kWholeTokens ? whole : Part(whole, 0, group);
}

at::Tensor Forward(const Network& part, Mode mode, Communicator& group, WeightGradients* weight_gradients) {
  if (mode == Mode::kOverlapped) {
    const Tensors h = OverlappedColumnLinears(part.x, {part.w1, part.w3}, group, weight_gradients);
    return OverlappedRowLinear(h[0] * h[1], part.w2, group, weight_gradients);
  }
  const bool whole = mode == Mode::kWholeTokens;
  const at::Tensor x = whole ? AllReduceGradient(part.x, group) : GatherRows(part.x, group);
  const at::Tensor y =
      Linear(Linear(x, part.w1, weight_gradients) * Linear(x, part.w3, weight_gradients), part.w2, weight_gradients);
  return whole ? AllReduceSum(y, group) : ReduceScatterRows(y, group);
}

// What this rank has of the output and of the gradients of x, w1, w3, w2.
Tensors Computed(Mode mode, Communicator& group, WeightGradients* weight_gradients = nullptr, double w1_factor = 1) {
  const Network whole = Whole(group);
  const Network part{.x = Leaf(Tokens(whole.x, mode, group)),
                     .w1 = Leaf(Part(whole.w1, 0, group) * w1_factor),
                     .w3 = Leaf(Part(whole.w3, 0, group)),
                     .w2 = Leaf(Part(whole.w2, 1, group)),
                     .dy = Tokens(whole.dy, mode, group)};
  const at::Tensor y = Forward(part, mode, group, weight_gradients);
  y.backward(part.dy);
  if (weight_gradients != nullptr) {
    EXPECT_TRUE(part.x.grad().defined());
    EXPECT_FALSE(part.w1.grad().defined() || part.w3.grad().defined() || part.w2.grad().defined());
    weight_gradients->Run();
  }
  return {y.detach(), part.x.grad(), part.w1.grad(), part.w3.grad(), part.w2.grad()};
}

// The same parts of what one rank computes.
Tensors Expected(Mode mode, const Communicator& group) {
  const Network whole = Whole(group);
  const at::Tensor y = at::linear(at::linear(whole.x, whole.w1) * at::linear(whole.x, whole.w3), whole.w2);
  y.backward(whole.dy);
  return {Tokens(y.detach(), mode, group), Tokens(whole.x.grad(), mode, group), Part(whole.w1.grad(), 0, group),
          Part(whole.w3.grad(), 0, group), Part(whole.w2.grad(), 1, group)};
}

class TensorParallelTest : public testing::TestWithParam<int64_t> {};  // the number of ranks

TEST_P(TensorParallelTest, LayersComputeWhatOneRankDoes) {
  EXPECT_EQ(RunRanks(GetParam(),
                     [](Transport& transport) {
                       const std::unique_ptr<Communicator> group = World(transport);
                       for (const Mode mode : kModes) {
                         const Tensors expected = Expected(mode, *group);
                         const Tensors computed = Computed(mode, *group);
                         EXPECT_LT(Difference(computed, expected), kTolerance) << static_cast<int>(mode);
                         EXPECT_TRUE(SameBits(computed, Computed(mode, *group))) << static_cast<int>(mode);
                         WeightGradients weight_gradients;
                         weight_gradients.set_deferring(true);
                         EXPECT_LT(Difference(Computed(mode, *group, &weight_gradients), expected), kTolerance);
                       }
                     }),
            "");
}

// The negative control: what one rank gets wrong, every rank sees.
TEST_P(TensorParallelTest, AnotherWeightOfOneRankIsSeenByAll) {
  EXPECT_EQ(RunRanks(GetParam(),
                     [](Transport& transport) {
                       const std::unique_ptr<Communicator> group = World(transport);
                       const double factor = group->rank() == 0 ? 1 + 1e-6 : 1;
                       for (const Mode mode : kModes) {
                         EXPECT_GT(Difference(Computed(mode, *group, nullptr, factor), Expected(mode, *group)), 1e-8);
                       }
                     }),
            "");
}

// docs/parallelism.md: all three ways send the same number of bytes.
TEST_P(TensorParallelTest, SendsWhatTheDocumentationSays) {
  EXPECT_EQ(RunRanks(GetParam(),
                     [](Transport& transport) {
                       const std::unique_ptr<Communicator> group = World(transport);
                       int64_t before = 0;
                       for (const Mode mode : kModes) {
                         Computed(mode, *group);
                         int64_t sent = 0;
                         for (const CommunicationCount& count : group->counts()) sent += count.bytes_sent;
                         const int64_t own_tokens = 3 * kDim * static_cast<int64_t>(sizeof(double));
                         EXPECT_EQ(sent - before, 4 * (group->size() - 1) * own_tokens) << static_cast<int>(mode);
                         before = sent;
                       }
                     }),
            "");
}

// (7): each rank's rows of the vocabulary, and none.
at::Tensor Labels() {
  at::Tensor labels = at::arange(7, at::kLong).remainder(6);
  labels[2].fill_(kIgnoredLabel);
  return labels;
}

// The loss, and the gradients of hidden and of this rank's rows of the weight.
Tensors ComputedLoss(Communicator& group, bool gathers_logits, double weight_factor = 1) {
  const at::Tensor hidden = Leaf(Numbers({7, kDim}, 1));
  const at::Tensor weight = Leaf(Part(Numbers({3 * group.size(), kDim}, 2), 0, group) * weight_factor);
  const at::Tensor loss =
      VocabularyCrossEntropy(AllReduceGradient(hidden, group), weight, Labels(), group, gathers_logits);
  loss.backward(at::full({}, 0.5, loss.options()));
  return {loss.detach(), hidden.grad(), weight.grad()};
}

Tensors ExpectedLoss(const Communicator& group) {
  const at::Tensor hidden = Leaf(Numbers({7, kDim}, 1));
  const at::Tensor weight = Leaf(Numbers({3 * group.size(), kDim}, 2));
  const at::Tensor loss = LinearCrossEntropy(hidden, weight, Labels());
  loss.backward(at::full({}, 0.5, loss.options()));
  return {loss.detach(), hidden.grad(), Part(weight.grad(), 0, group)};
}

TEST_P(TensorParallelTest, LossesAreThoseOfOneRank) {
  EXPECT_EQ(RunRanks(GetParam(),
                     [](Transport& transport) {
                       const std::unique_ptr<Communicator> group = World(transport);
                       const double factor = group->rank() == 0 ? 1 + 1e-6 : 1;
                       for (const bool gathers_logits : {false, true}) {
                         const Tensors expected = ExpectedLoss(*group);
                         EXPECT_LT(Difference(ComputedLoss(*group, gathers_logits), expected), kTolerance);
                         EXPECT_GT(Difference(ComputedLoss(*group, gathers_logits, factor), expected), 1e-9);
                       }
                     }),
            "");
}

INSTANTIATE_TEST_SUITE_P(Ranks, TensorParallelTest, testing::Values(2, 3, 4));

}  // namespace
}  // namespace titan
