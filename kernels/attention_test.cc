#include "kernels/attention.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"

namespace titan {
namespace {

// As the formula says, with every matrix written out. mask (B or 1, 1, S, S) bool.
at::Tensor Reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& mask) {
  const int64_t group = q.size(2) / k.size(2);
  const at::Tensor queries = q.transpose(1, 2);                             // (B, H, S, d)
  const at::Tensor keys = k.repeat_interleave(group, 2).transpose(1, 2);    // (B, H, S, d)
  const at::Tensor values = v.repeat_interleave(group, 2).transpose(1, 2);  // (B, H, S, d)
  const at::Tensor scores = at::matmul(queries, keys.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
  const at::Tensor hidden = scores.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity());
  return at::matmul(hidden.softmax(-1), values).transpose(1, 2);
}

at::Tensor Causal(int64_t sequence) { return at::ones({1, 1, sequence, sequence}, at::kBool).tril(); }

struct Shape {
  int64_t batch, sequence, heads, kv_heads, dim;
};

const Shape kShapes[] = {{1, 1, 1, 1, 2},    {2, 37, 4, 2, 12},  {1, 130, 6, 2, 16}, {2, 64, 3, 3, 8},
                         {1, 300, 2, 1, 16}, {1, 257, 2, 2, 64}, {3, 5, 8, 1, 24},   {1, 96, 2, 1, 128}};

std::vector<at::Tensor> Inputs(const Shape& s) {
  return {Normal({s.batch, s.sequence, s.heads, s.dim}, 1), Normal({s.batch, s.sequence, s.kv_heads, s.dim}, 2),
          Normal({s.batch, s.sequence, s.kv_heads, s.dim}, 3)};
}

// first_key (B, S) from the documents of each row.
at::Tensor FirstKeys(const at::Tensor& document) {
  at::Tensor first = at::zeros_like(document);
  for (int64_t b = 0; b < document.size(0); ++b) {
    for (int64_t i = 1; i < document.size(1); ++i) {
      const bool same = document[b][i].item<int64_t>() == document[b][i - 1].item<int64_t>();
      first[b][i].fill_(same ? first[b][i - 1].item<int64_t>() : i);
    }
  }
  return first;
}

// Of rows whose documents are numbered.
void AddStarts(const at::Tensor& document, VisibleKeys& visible) {
  std::vector<int32_t> starts;
  const int64_t size = document.numel(), sequence = document.size(1);
  for (int64_t i = 0; i < size; ++i) {
    const at::Tensor flat = document.view({-1});
    if (i % sequence == 0 || !flat[i].equal(flat[i - 1])) starts.push_back(static_cast<int32_t>(i));
  }
  starts.push_back(static_cast<int32_t>(size));
  for (size_t i = 1; i < starts.size(); ++i) {
    visible.longest_document = std::max<int64_t>(visible.longest_document, starts[i] - starts[i - 1]);
  }
  visible.document_starts = at::tensor(starts, at::kInt);
}

VisibleKeys OnDevice(VisibleKeys visible, at::Device device) {
  visible.first_key = visible.first_key.to(device);
  if (visible.document_starts.defined()) visible.document_starts = visible.document_starts.to(device);
  return visible;
}

void ExpectMatches(const Shape& shape, const Operator& actual, const at::Tensor& mask) {
  SCOPED_TRACE(testing::Message() << "S=" << shape.sequence << " H=" << shape.heads << ":" << shape.kv_heads
                                  << " d=" << shape.dim);
  const auto reference = [&](const auto& in) { return Reference(in[0], in[1], in[2], mask); };
  ExpectMatchesReference(Inputs(shape), at::kFloat, 3e-6, actual, reference);
  ExpectMatchesReference(Inputs(shape), at::kDouble, 1e-14, actual, reference);
  ExpectMatchesReference(Inputs(shape), at::kBFloat16, 3e-2, actual, reference);
}

TEST(AttentionTest, CausalMatchesReference) {
  for (const Shape& shape : kShapes) {
    const at::Tensor first_key = at::zeros({shape.batch, shape.sequence}, at::kLong);
    const at::Tensor mask = Causal(shape.sequence);
    ExpectMatches(
        shape, [&](const auto& in) { return Attention(in[0], in[1], in[2], {.first_key = first_key}); }, mask);
    ExpectMatches(shape, [](const auto& in) { return LibraryAttention(in[0], in[1], in[2], at::Tensor()); }, mask);
  }
}

TEST(AttentionTest, DocumentsMatchReference) {
  for (const Shape& shape : kShapes) {
    // Documents of random lengths, another cut in each row.
    const at::Tensor document = Integers(10, {shape.batch, shape.sequence}, 9).eq(0).to(at::kLong).cumsum(1);
    const at::Tensor same = document.unsqueeze(2).eq(document.unsqueeze(1)).unsqueeze(1);  // (B, 1, S, S)
    const at::Tensor mask = same.logical_and(Causal(shape.sequence));
    // On a GPU bf16 takes the starts, fp32 and fp64 make a mask of first_key.
    VisibleKeys visible{.first_key = FirstKeys(document), .several_documents = true};
    AddStarts(document, visible);
    ExpectMatches(
        shape, [&](const auto& in) { return Attention(in[0], in[1], in[2], OnDevice(visible, in[0].device())); }, mask);
    ExpectMatches(
        shape, [&](const auto& in) { return LibraryAttention(in[0], in[1], in[2], mask.to(in[0].device())); }, mask);
  }
}

TEST(AttentionTest, WindowMatchesReference) {
  for (const Shape& shape : kShapes) {
    for (const int64_t window : {2, 7, 64, 1000}) {
      SCOPED_TRACE(testing::Message() << "window " << window);
      const at::Tensor in_window = Causal(shape.sequence).triu(1 - window);
      const VisibleKeys whole{.first_key = at::zeros({shape.batch, shape.sequence}, at::kLong), .window = window};
      ExpectMatches(
          shape, [&](const auto& in) { return Attention(in[0], in[1], in[2], OnDevice(whole, in[0].device())); },
          in_window);

      const at::Tensor document = Integers(10, {shape.batch, shape.sequence}, 9).eq(0).to(at::kLong).cumsum(1);
      const at::Tensor same = document.unsqueeze(2).eq(document.unsqueeze(1)).unsqueeze(1);  // (B, 1, S, S)
      VisibleKeys packed{.first_key = FirstKeys(document), .several_documents = true, .window = window};
      AddStarts(document, packed);
      ExpectMatches(
          shape, [&](const auto& in) { return Attention(in[0], in[1], in[2], OnDevice(packed, in[0].device())); },
          same.logical_and(in_window));
    }
  }
}

// A softmax of one score: the gradients of queries and keys are 0, so that there is nothing to be relative to.
TEST(AttentionTest, WindowOfOneIsTheValue) {
  const at::Tensor first_key = at::zeros({1, 20}, at::kLong), v = Normal({1, 20, 2, 16}, 3);
  const at::Tensor out =
      Attention(Normal({1, 20, 4, 16}, 1), Normal({1, 20, 2, 16}, 2), v, {.first_key = first_key, .window = 1});
  EXPECT_TRUE(at::equal(out, v.repeat_interleave(2, 2)));
}

// Scores in the hundreds: the largest must be taken out before the exponential.
TEST(AttentionTest, LargeScores) {
  const std::vector<at::Tensor> in = {Normal({1, 20, 2, 16}, 1) * 30, Normal({1, 20, 2, 16}, 2) * 30,
                                      Normal({1, 20, 2, 16}, 3)};
  const at::Tensor out = Attention(in[0], in[1], in[2], {.first_key = at::zeros({1, 20}, at::kLong)});
  EXPECT_LE(RelativeError(out, Reference(in[0], in[1], in[2], Causal(20))), 1e-12);
}

TEST(AttentionTest, GradientsDoNotDependOnThreads) {
  std::vector<at::Tensor> gradients;
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    std::vector<at::Tensor> in;
    for (const at::Tensor& x : Inputs({2, 65, 6, 3, 16})) in.push_back(x.to(at::kFloat).requires_grad_(true));
    Attention(in[0], in[1], in[2], {.first_key = at::zeros({2, 65}, at::kLong)}).square().sum().backward();
    gradients.push_back(in[1].grad());
  }
  EXPECT_TRUE(at::equal(gradients[0], gradients[1]));
}

TEST(AttentionTest, RefusesWhatDoesNotFit) {
  const at::Tensor q = Normal({1, 4, 3, 8}, 1), k = Normal({1, 4, 2, 8}, 1), first_key = at::zeros({1, 4}, at::kLong);
  EXPECT_THROW(Attention(q, k, k, {.first_key = first_key}), c10::Error);
  EXPECT_THROW(Attention(q, q, q, {.first_key = first_key.t()}), c10::Error);
  EXPECT_THROW(Attention(q, q, q, {.first_key = first_key, .window = -1}), c10::Error);
}

}  // namespace
}  // namespace titan
