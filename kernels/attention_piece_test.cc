#include "kernels/attention_piece.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"

namespace titan {
namespace {

struct Shape {
  int64_t batch, queries, keys, heads, kv_heads, dim;
};

// With keys in more than one block of the CPU kernel, too.
const Shape kShapes[] = {{1, 1, 1, 1, 1, 2},   {2, 20, 37, 4, 2, 12},    {1, 64, 130, 6, 2, 16}, {2, 48, 48, 3, 3, 8},
                         {3, 5, 29, 8, 1, 24}, {1, 150, 600, 2, 1, 128}, {1, 257, 40, 2, 2, 64}};

// As the formula says: out (B, S, H, d), normalizer (B, H, S), float64, by operators that autograd knows.
AttentionOutput Reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& first,
                          const at::Tensor& end) {
  const int64_t group = q.size(2) / k.size(2);
  const at::Tensor keys = k.repeat_interleave(group, 2).transpose(1, 2);    // (B, H, S_k, d)
  const at::Tensor values = v.repeat_interleave(group, 2).transpose(1, 2);  // (B, H, S_k, d)
  const at::Tensor key = at::arange(k.size(1), first.options());
  const at::Tensor seen = first.unsqueeze(2).le(key).logical_and(end.unsqueeze(2).gt(key)).unsqueeze(1);
  const at::Tensor scores = (at::matmul(q.transpose(1, 2), keys.transpose(2, 3)) / std::sqrt(1.0 * q.size(3)))
                                .masked_fill(seen.logical_not(), -std::numeric_limits<double>::infinity());
  // A row that sees nothing has weights of 0, not of 0 / 0.
  const at::Tensor weights = scores.softmax(-1).masked_fill(seen.logical_not(), 0);
  return {.out = at::matmul(weights, values).transpose(1, 2), .normalizer = at::logsumexp(scores, {3}) / std::log(2.0)};
}

struct Example {
  at::Tensor q, k, v, dout;
  at::Tensor first, end;  // (B, queries): of all keys
};

// Queries stand at the end of the keys, or beyond, in documents of random lengths.
Example MakeExample(const Shape& s, at::ScalarType dtype) {
  const auto draw = [&](int64_t tokens, int64_t heads, uint64_t seed) {
    return Normal({s.batch, tokens, heads, s.dim}, seed).to(dtype);
  };
  Example e{.q = draw(s.queries, s.heads, 1),
            .k = draw(s.keys, s.kv_heads, 2),
            .v = draw(s.keys, s.kv_heads, 3),
            .dout = draw(s.queries, s.heads, 4),
            .first = {},
            .end = {}};
  const int64_t offset = std::max<int64_t>(s.keys - s.queries, 0);
  e.end = (at::arange(s.queries, at::kLong) + offset + 1).clamp_max(s.keys).expand({s.batch, s.queries});
  const at::Tensor starts = Integers(12, {s.batch, s.queries}, 5).eq(0) * at::arange(s.queries, at::kLong);
  e.first = (std::get<0>(starts.cummax(1)) + offset / 2).clamp_max(s.keys);
  return e;
}

// Attend and gradients of one implementation.
struct Implementation {
  const char* name;
  decltype(&AttendToPiece) attend;
  decltype(&PieceGradients) gradients;
};
const Implementation kImplementations[] = {{"kernel", AttendToPiece, PieceGradients},
                                           {"library", LibraryAttendToPiece, LibraryPieceGradients}};

// Keys in pieces of these lengths, the last of them once more as long as it takes.
struct Cut {
  AttentionPiece piece;
  int64_t begin;
};
std::vector<Cut> CutKeys(const Example& e) {
  std::vector<Cut> cuts;
  const int64_t keys = e.k.size(1);
  for (int64_t begin = 0, length = 3; begin < keys; begin += length, length = 2 * length + 1) {
    const int64_t count = std::min(length, keys - begin);
    AttentionPiece piece{.queries = e.q.size(1), .keys = count};
    piece.first_key = (e.first - begin).clamp(0, count);
    piece.end_key = (e.end - begin).clamp(0, count);
    cuts.push_back({.piece = piece, .begin = begin});
  }
  return cuts;
}

// All pieces merged, and gradients added up.
struct Result {
  AttentionOutput all;
  AttentionGradients gradients;
};
Result RunPieces(const Example& e, const Implementation& implementation, bool own_normalizers = false) {
  const at::ScalarType wide = e.q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  Result result;
  result.all = {.out = at::zeros(e.q.sizes(), wide),
                .normalizer = at::full({e.q.size(0), e.q.size(2), e.q.size(1)},
                                       -std::numeric_limits<double>::infinity(), at::TensorOptions(wide))};
  const auto keys_of = [](const at::Tensor& x, const Cut& cut) { return x.narrow(1, cut.begin, cut.piece.keys); };
  for (const Cut& cut : CutKeys(e)) {
    const AttentionOutput part = implementation.attend(e.q, keys_of(e.k, cut), keys_of(e.v, cut), cut.piece);
    EXPECT_EQ(part.out.scalar_type(), wide);
    MergeAttention(part, cut.piece, result.all);
  }
  result.gradients = {
      .dq = at::zeros(e.q.sizes(), wide), .dk = at::zeros(e.k.sizes(), wide), .dv = at::zeros(e.v.sizes(), wide)};
  for (const Cut& cut : CutKeys(e)) {
    const at::Tensor k = keys_of(e.k, cut), v = keys_of(e.v, cut);
    const AttentionOutput& all = own_normalizers ? implementation.attend(e.q, k, v, cut.piece) : result.all;
    const AttentionGradients part = implementation.gradients(e.q, k, v, cut.piece, all, e.dout);
    result.gradients.dq.add_(part.dq);
    keys_of(result.gradients.dk, cut).copy_(part.dk);
    keys_of(result.gradients.dv, cut).copy_(part.dv);
  }
  return result;
}

Result RunReference(const Example& e) {
  std::vector<at::Tensor> in;
  for (const at::Tensor& x : {e.q, e.k, e.v}) in.push_back(x.to(at::kDouble).detach().requires_grad_(true));
  Result result;
  result.all = Reference(in[0], in[1], in[2], e.first, e.end);
  (result.all.out * e.dout.to(at::kDouble)).sum().backward();
  result.gradients = {.dq = in[0].grad(), .dk = in[1].grad(), .dv = in[2].grad()};
  return result;
}

// The largest relative error of all results; NaN counts as infinite.
double Error(const Result& actual, const Result& expected) {
  const at::Tensor blind = expected.all.normalizer.isneginf();
  EXPECT_TRUE(actual.all.normalizer.isneginf().eq(blind).all().item<bool>()) << "who sees nothing";
  const auto finite = [&](const Result& r) { return r.all.normalizer.masked_fill(blind, 0); };
  double worst = 0;
  for (const double error :
       {RelativeError(actual.all.out, expected.all.out), RelativeError(finite(actual), finite(expected)),
        RelativeError(actual.gradients.dq, expected.gradients.dq),
        RelativeError(actual.gradients.dk, expected.gradients.dk),
        RelativeError(actual.gradients.dv, expected.gradients.dv)}) {
    worst = error <= worst ? worst : (std::isnan(error) ? INFINITY : error);
  }
  return worst;
}

TEST(AttentionPieceTest, PiecesMergeIntoTheWhole) {
  at::set_num_threads(1);  // many small matrices
  for (const Shape& shape : kShapes) {
    for (const Implementation& implementation : kImplementations) {
      SCOPED_TRACE(testing::Message() << implementation.name << ": " << shape.queries << " queries, " << shape.keys
                                      << " keys, " << shape.dim << " elements");
      const auto error = [&](at::ScalarType dtype) {
        const Example example = MakeExample(shape, dtype);
        return Error(RunPieces(example, implementation), RunReference(example));
      };
      EXPECT_LE(error(at::kDouble), 1e-13);
      EXPECT_LE(error(at::kFloat), 5e-6);
      EXPECT_LE(error(at::kBFloat16), 5e-6);  // computed, and given back, in fp32
    }
  }
}

// What the test above would miss if it could not fail: gradients by the normalizers of each piece alone, and results
// that are added without regard to them.
TEST(AttentionPieceTest, NegativeControls) {
  const Example example = MakeExample(kShapes[2], at::kDouble);
  const Result expected = RunReference(example);
  EXPECT_GT(Error(RunPieces(example, kImplementations[0], /*own_normalizers=*/true), expected), 0.1);
  at::Tensor sum = at::zeros_like(expected.all.out);
  for (const Cut& cut : CutKeys(example)) {
    const auto keys_of = [&](const at::Tensor& x) { return x.narrow(1, cut.begin, cut.piece.keys); };
    sum += AttendToPiece(example.q, keys_of(example.k), keys_of(example.v), cut.piece).out;
  }
  EXPECT_GT(RelativeError(sum / static_cast<double>(CutKeys(example).size()), expected.all.out), 0.1);
}

TEST(AttentionPieceTest, QueriesThatSeeNothing) {
  Example example = MakeExample({2, 24, 40, 4, 2, 16}, at::kFloat);
  example.first = example.first.clone();
  example.end = example.end.clone();
  example.first.narrow(1, 5, 9).fill_(7);  // a whole tile of the kernel, and parts of others
  example.end.narrow(1, 5, 9).fill_(7);
  for (const Implementation& implementation : kImplementations) {
    const Result result = RunPieces(example, implementation);
    EXPECT_LE(Error(result, RunReference(example)), 5e-6) << implementation.name;
    EXPECT_TRUE(result.all.out.narrow(1, 5, 9).eq(0).all().item<bool>());
    EXPECT_TRUE(result.gradients.dq.narrow(1, 5, 9).eq(0).all().item<bool>());
  }
}

// Without ranges: all keys, or those up to the query; and only some of the queries and keys.
TEST(AttentionPieceTest, WholePieces) {
  const Shape shape{2, 30, 30, 4, 2, 16};
  const Example e = MakeExample(shape, at::kFloat);
  const auto every_row = [&](const at::Tensor& x) { return x.expand({shape.batch, x.size(0)}); };
  const at::Tensor zeros = every_row(at::zeros({30}, at::kLong)), place = every_row(at::arange(30, at::kLong));
  struct Case {
    AttentionPiece piece;
    at::Tensor end;
  };
  const Case cases[] = {
      {{.queries = 30, .keys = 30, .is_causal = true}, place + 1},
      {{.queries = 30, .keys = 15}, zeros + 15},
      {{.query_begin = 15, .queries = 15, .keys = 30}, place.ge(15).to(at::kLong) * 30},
  };
  for (const Case& c : cases) {
    Example whole = e;
    whole.first = zeros;
    whole.end = c.end;
    const Result expected = RunReference(whole);
    for (const Implementation& implementation : kImplementations) {
      const AttentionOutput part = implementation.attend(e.q, e.k, e.v, c.piece);
      const auto queries = [&](const at::Tensor& x, int64_t dim) {
        return x.narrow(dim, c.piece.query_begin, c.piece.queries);
      };
      EXPECT_LE(RelativeError(part.out, queries(expected.all.out, 1)), 3e-6);
      EXPECT_LE(RelativeError(part.normalizer, queries(expected.all.normalizer, 2)), 3e-6);
      const AttentionOutput all{.out = expected.all.out.detach().to(at::kFloat),
                                .normalizer = expected.all.normalizer.detach().to(at::kFloat)};
      const AttentionGradients gradients = implementation.gradients(e.q, e.k, e.v, c.piece, all, e.dout);
      EXPECT_LE(RelativeError(gradients.dq, queries(expected.gradients.dq, 1)), 5e-6);
      EXPECT_LE(RelativeError(gradients.dk, expected.gradients.dk.narrow(1, 0, c.piece.keys)), 5e-6);
      EXPECT_LE(RelativeError(gradients.dv, expected.gradients.dv.narrow(1, 0, c.piece.keys)), 5e-6);
    }
  }
}

TEST(AttentionPieceTest, PieceAttentionIsDifferentiable) {
  const Example e = MakeExample({2, 20, 37, 4, 2, 12}, at::kDouble);
  const AttentionPiece piece{.queries = 20, .keys = 30, .first_key = e.first, .end_key = e.end.clamp_max(30)};
  const auto actual = [&](const auto& in) {
    AttentionPiece there = piece;
    there.first_key = there.first_key.to(in[0].device());
    there.end_key = there.end_key.to(in[0].device());
    return PieceAttention(in[0], in[1], in[2], there);
  };
  const auto reference = [&](const auto& in) {
    return Reference(in[0], in[1], in[2], piece.first_key, piece.end_key).out;
  };
  ExpectMatchesReference({e.q, e.k, e.v}, at::kFloat, 3e-6, actual, reference);
  ExpectMatchesReference({e.q, e.k, e.v}, at::kDouble, 1e-14, actual, reference);
  ExpectMatchesReference({e.q, e.k, e.v}, at::kBFloat16, 3e-2, actual, reference);
}

TEST(AttentionPieceTest, RefusesRangesOfOtherShapes) {
  const Example e = MakeExample({2, 20, 37, 4, 2, 12}, at::kFloat);
  EXPECT_THROW(AttendToPiece(e.q, e.k, e.v, {.queries = 19, .keys = 37, .first_key = e.first, .end_key = e.end}),
               c10::Error);
  EXPECT_THROW(AttendToPiece(e.q, e.k, e.q, {.queries = 20, .keys = 37}), c10::Error);
}

}  // namespace
}  // namespace titan
