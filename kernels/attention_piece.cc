#include "kernels/attention_piece.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_scaled_dot_product_flash_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_backward.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logaddexp2.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "kernels/attention_cpu.h"
#include "kernels/function.h"

namespace titan {
namespace {

constexpr double kLog2E = 1.4426950408889634;

at::Tensor Widened(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

at::Tensor QueriesOf(const at::Tensor& x, const AttentionPiece& piece) {
  return x.narrow(1, piece.query_begin, piece.queries);
}

at::Tensor KeysOf(const at::Tensor& x, const AttentionPiece& piece) { return x.narrow(1, 0, piece.keys); }

AttentionOutput QueriesOf(const AttentionOutput& all, const AttentionPiece& piece) {
  return {.out = QueriesOf(all.out, piece), .normalizer = all.normalizer.narrow(2, piece.query_begin, piece.queries)};
}

void CheckShapes(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionPiece& piece) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && k.sizes() == v.sizes() && k.size(2) > 0 && q.size(2) % k.size(2) == 0 &&
                  q.size(0) == k.size(0) && q.size(3) == k.size(3),
              "attention: q ", q.sizes(), ", k ", k.sizes(), " and v ", v.sizes(),
              " must be (B, S, H, d), with a multiple of the key heads in q");
  const auto is_range = [&](const at::Tensor& x) {
    return x.dim() == 2 && x.size(0) == q.size(0) && x.size(1) == piece.queries && x.scalar_type() == at::kLong;
  };
  TORCH_CHECK(!piece.first_key.defined() || (is_range(piece.first_key) && is_range(piece.end_key)),
              "attention: first_key and end_key must be int64 of shape (B, S), got ", piece.first_key.sizes());
}

// first_key and end_key, written out.
KeyRanges RangesOf(const at::Tensor& q, const AttentionPiece& piece) {
  if (piece.first_key.defined()) return {.first = piece.first_key, .end = piece.end_key};
  const auto options = at::TensorOptions(q.device()).dtype(at::kLong);
  const at::Tensor end =
      piece.is_causal ? at::arange(1, piece.queries + 1, options) : at::full({piece.queries}, piece.keys, options);
  const auto every_row = [&](const at::Tensor& x) { return x.expand({q.size(0), piece.queries}); };
  return {.first = every_row(at::zeros({piece.queries}, options)), .end = every_row(end)};
}

// The library's flash attention knows nothing of ranges; a causal piece must have as many keys as queries.
bool FlashAttends(const at::Tensor& q, const AttentionPiece& piece) {
  return q.is_cuda() && !piece.first_key.defined() && (!piece.is_causal || piece.queries == piece.keys) &&
         (q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf) && q.size(3) % 8 == 0 && q.size(3) <= 256;
}

at::Tensor HeadsFirst(const at::Tensor& x) { return x.transpose(1, 2); }

AttentionOutput FlashForward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const AttentionPiece& piece) {
  const auto result =
      at::_scaled_dot_product_flash_attention(HeadsFirst(q), HeadsFirst(k), HeadsFirst(v), 0.0, piece.is_causal);
  return {.out = HeadsFirst(std::get<0>(result)).to(at::kFloat), .normalizer = std::get<1>(result) * kLog2E};
}

AttentionGradients FlashBackward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const AttentionPiece& piece, const AttentionOutput& all, const at::Tensor& dout) {
  const auto like_queries = [&](const at::Tensor& x) { return HeadsFirst(x.to(q.scalar_type())); };
  const at::Tensor unused = at::zeros({}, q.options().dtype(at::kLong));  // seed and offset of dropout
  const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_backward(
      like_queries(dout), HeadsFirst(q), HeadsFirst(k), HeadsFirst(v), like_queries(all.out),
      (all.normalizer / kLog2E).contiguous(), /*cum_seq_q=*/at::Tensor(), /*cum_seq_k=*/at::Tensor(), q.size(1),
      k.size(1), 0.0, piece.is_causal, unused, unused);
  const auto wide = [](const at::Tensor& x) { return HeadsFirst(x).to(at::kFloat); };
  return {.dq = wide(dq), .dk = wide(dk), .dv = wide(dv)};
}

// What a piece weighs in the merged rows, as a factor of (B, S, H, d).
at::Tensor Share(const at::Tensor& normalizer, const at::Tensor& merged) {
  const at::Tensor share = (normalizer - merged).exp2_().masked_fill_(merged.isneginf(), 0);  // (B, H, S)
  return share.transpose(1, 2).unsqueeze(3);
}

}  // namespace

AttentionOutput AttendToPiece(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const AttentionPiece& piece) {
  CheckShapes(q, k, v, piece);
  const at::Tensor own = QueriesOf(q, piece), keys = KeysOf(k, piece), values = KeysOf(v, piece);
  if (q.is_cpu()) return AttentionForwardCpu(Widened(own), Widened(keys), Widened(values), RangesOf(q, piece));
  if (FlashAttends(q, piece)) return FlashForward(own, keys, values, piece);
  return LibraryAttendToPiece(q, k, v, piece);
}

void MergeAttention(const AttentionOutput& of_piece, const AttentionPiece& piece, const AttentionOutput& all) {
  const AttentionOutput rows = QueriesOf(all, piece);
  const at::Tensor merged = at::logaddexp2(rows.normalizer, of_piece.normalizer);  // (B, H, queries)
  rows.out.mul_(Share(rows.normalizer, merged)).addcmul_(of_piece.out, Share(of_piece.normalizer, merged));
  rows.normalizer.copy_(merged);
}

AttentionGradients PieceGradients(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const AttentionPiece& piece, const AttentionOutput& all, const at::Tensor& dout) {
  CheckShapes(q, k, v, piece);
  const at::Tensor own = QueriesOf(q, piece), keys = KeysOf(k, piece), values = KeysOf(v, piece);
  const AttentionOutput rows = QueriesOf(all, piece);
  if (q.is_cpu()) {
    return AttentionBackwardCpu(Widened(own), Widened(keys), Widened(values), RangesOf(q, piece),
                                {.out = Widened(rows.out), .normalizer = rows.normalizer},
                                Widened(QueriesOf(dout, piece)));
  }
  if (FlashAttends(q, piece)) return FlashBackward(own, keys, values, piece, rows, QueriesOf(dout, piece));
  return LibraryPieceGradients(q, k, v, piece, all, dout);
}

at::Tensor PieceAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionPiece& piece) {
  TORCH_CHECK(piece.query_begin == 0 && piece.queries == q.size(1), "attention: a single piece is of all queries");
  const auto forward = [&](const TensorVector& in) -> Recorded {
    const AttentionOutput result = AttendToPiece(in[0], in[1], in[2], piece);
    const at::Tensor out = result.out.to(in[0].scalar_type());
    return {.outputs = {out}, .saved = {in[0], in[1], in[2], out, result.normalizer}};
  };
  const auto backward = [piece](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    const AttentionGradients result =
        PieceGradients(saved[0], saved[1], saved[2], piece, {.out = saved[3], .normalizer = saved[4]}, gradients[0]);
    const auto padded = [&](const at::Tensor& gradient) {
      if (piece.keys == saved[1].size(1)) return gradient.to(saved[1].scalar_type());
      const at::Tensor whole = at::zeros(saved[1].sizes(), saved[1].options());
      KeysOf(whole, piece).copy_(gradient);
      return whole;
    };
    return {result.dq.to(saved[0].scalar_type()), padded(result.dk), padded(result.dv)};
  };
  return ApplyFunction({q, k, v}, forward, backward)[0];
}

namespace {

constexpr int64_t kScoresAtOnce = int64_t{1} << 26;

// Everything with heads before tokens, in fp32 or fp64, and keys and values repeated for each query head.
struct LibraryInputs {
  LibraryInputs(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionPiece& piece)
      : group(q.size(2) / k.size(2)),
        scale(1 / std::sqrt(static_cast<double>(q.size(3)))),
        queries(HeadsFirst(Widened(QueriesOf(q, piece)))),
        keys(HeadsFirst(Widened(KeysOf(k, piece)).repeat_interleave(group, 2))),
        values(HeadsFirst(Widened(KeysOf(v, piece)).repeat_interleave(group, 2))),
        ranges(RangesOf(q, piece)),
        rows_at_once(std::max<int64_t>(1, kScoresAtOnce / std::max<int64_t>(1, q.size(0) * q.size(2) * piece.keys))) {}

  // Calls f(first query, number of queries) for all of them.
  template <typename F>
  void ForEachChunk(const F& f) const {
    for (int64_t begin = 0; begin < queries.size(2); begin += rows_at_once) {
      f(begin, std::min(rows_at_once, queries.size(2) - begin));
    }
  }

  // (B, H, count, keys), -infinity where a query does not see a key.
  at::Tensor Scores(int64_t begin, int64_t count) const {
    const auto rows = [&](const at::Tensor& x) { return x.narrow(1, begin, count).unsqueeze(2); };
    const at::Tensor key = at::arange(keys.size(2), ranges.first.options());
    const at::Tensor hidden = rows(ranges.first).gt(key).logical_or(rows(ranges.end).le(key));  // (B, count, keys)
    return at::matmul(queries.narrow(2, begin, count), keys.transpose(2, 3))
        .mul_(scale)
        .masked_fill_(hidden.unsqueeze(1), -std::numeric_limits<double>::infinity());
  }

  int64_t group;
  double scale;
  at::Tensor queries;       // (B, H, queries, d)
  at::Tensor keys, values;  // (B, H, keys, d)
  KeyRanges ranges;
  int64_t rows_at_once;
};

// softmax(scores) by the natural logarithm (B, H, count) of the sum of a row's exponentials.
at::Tensor Probabilities(const at::Tensor& scores, const at::Tensor& log_sum) {
  const at::Tensor finite = log_sum.masked_fill(log_sum.isneginf(), 0);  // the scores are -infinity themselves
  return (scores - finite.unsqueeze(3)).exp_();
}

}  // namespace

AttentionOutput LibraryAttendToPiece(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const AttentionPiece& piece) {
  CheckShapes(q, k, v, piece);
  const LibraryInputs in(q, k, v, piece);
  TensorVector outs, normalizers;
  in.ForEachChunk([&](int64_t begin, int64_t count) {
    const at::Tensor scores = in.Scores(begin, count);
    const at::Tensor log_sum = at::logsumexp(scores, {3});  // (B, H, count)
    outs.push_back(HeadsFirst(at::matmul(Probabilities(scores, log_sum), in.values)));
    normalizers.push_back(log_sum * kLog2E);
  });
  return {.out = at::cat(outs, 1), .normalizer = at::cat(normalizers, 2)};
}

AttentionGradients LibraryPieceGradients(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                         const AttentionPiece& piece, const AttentionOutput& all,
                                         const at::Tensor& dout) {
  CheckShapes(q, k, v, piece);
  const LibraryInputs in(q, k, v, piece);
  const AttentionOutput own = QueriesOf(all, piece);
  const at::Tensor out = HeadsFirst(Widened(own.out)), gradient = HeadsFirst(Widened(QueriesOf(dout, piece)));
  const at::Tensor delta = (out * gradient).sum({3}, /*keepdim=*/true);  // (B, H, queries, 1)
  const at::Tensor dkeys = at::zeros_like(in.keys), dvalues = at::zeros_like(in.values);
  TensorVector dqueries;
  in.ForEachChunk([&](int64_t begin, int64_t count) {
    const auto rows = [&](const at::Tensor& x) { return x.narrow(2, begin, count); };
    const at::Tensor probabilities = Probabilities(in.Scores(begin, count), rows(own.normalizer) / kLog2E);
    const at::Tensor dscores =
        at::matmul(rows(gradient), in.values.transpose(2, 3)).sub_(rows(delta)).mul_(probabilities).mul_(in.scale);
    dqueries.push_back(HeadsFirst(at::matmul(dscores, in.keys)));
    dkeys.add_(at::matmul(dscores.transpose(2, 3), rows(in.queries)));
    dvalues.add_(at::matmul(probabilities.transpose(2, 3), rows(gradient)));
  });
  const auto summed = [&](const at::Tensor& x) {  // (B, H, keys, d) -> (B, keys, H_kv, d)
    return HeadsFirst(x.unflatten(1, {k.size(2), in.group}).sum({2}));
  };
  return {.dq = at::cat(dqueries, 1), .dk = summed(dkeys), .dv = summed(dvalues)};
}

}  // namespace titan
