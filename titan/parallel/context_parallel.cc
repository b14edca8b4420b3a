#include "titan/parallel/context_parallel.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/stack.h>

#include <vector>

#include "kernels/function.h"
#include "titan/model/block.h"
#include "titan/model/context.h"

namespace titan {

at::Tensor ContextParallel::LocalTokens(const at::Tensor& values) const {
  const int64_t length = values.size(1) / num_pieces();
  TORCH_CHECK(values.size(1) % num_pieces() == 0, "context parallelism cannot cut sequences of ", values.size(1),
              " tokens into ", num_pieces(), " equal pieces");
  std::vector<at::Tensor> pieces;
  for (int64_t j = 0; j < pieces_per_rank(); ++j) {
    pieces.push_back(values.narrow(1, PieceOf(group_.rank(), j) * length, length));
  }
  return at::cat(pieces, 1);
}

void ContextParallel::PrepareAttention(const at::Tensor& positions, bool several_documents,
                                       BatchContext& context) const {
  if (options_.method == ContextParallelMethod::kUlysses) {
    return BlockParallelism::SingleRank().PrepareAttention(positions, several_documents, context);
  }
  const at::Tensor first_key = FirstKeys(positions);  // (B, C S)
  const int64_t length = positions.size(1) / num_pieces();
  for (int64_t j = 0; j < pieces_per_rank(); ++j) {
    const int64_t begin = PieceOf(group_.rank(), j) * length;
    const at::Tensor key = at::arange(begin + length, first_key.options());           // (keys)
    const at::Tensor query = at::arange(begin, begin + length, first_key.options());  // (length)
    const at::Tensor first = first_key.narrow(1, begin, length).unsqueeze(2);         // (B, length, 1)
    context.piece_masks.push_back(first.le(key).logical_and(key.le(query.unsqueeze(1))).unsqueeze(1));
  }
}

at::Tensor ContextParallel::Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const BatchContext& context) const {
  if (options_.method == ContextParallelMethod::kAllGather) return GatheredAttention(q, k, v, context);
  return SequenceToHeads(
      BlockParallelism::SingleRank().Attention(HeadsToSequence(q), HeadsToSequence(k), HeadsToSequence(v), context));
}

at::Tensor ContextParallel::GatheredAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                              const BatchContext& context) const {
  const at::Tensor all_k = GatherSequence(k), all_v = GatherSequence(v);  // (B, C S, H_kv, d)
  const int64_t length = q.size(1) / pieces_per_rank();
  std::vector<at::Tensor> outputs;
  for (int64_t j = 0; j < pieces_per_rank(); ++j) {
    const int64_t keys = (PieceOf(group_.rank(), j) + 1) * length;  // later ones are masked for all of the piece
    const auto heads_first = [](const at::Tensor& x, int64_t begin, int64_t count) {
      return x.narrow(1, begin, count).transpose(1, 2);
    };
    outputs.push_back(at::scaled_dot_product_attention(heads_first(q, j * length, length), heads_first(all_k, 0, keys),
                                                       heads_first(all_v, 0, keys), context.piece_masks[j],
                                                       /*dropout_p=*/0.0, /*is_causal=*/false, /*scale=*/std::nullopt,
                                                       /*enable_gqa=*/q.size(2) != k.size(2))
                          .transpose(1, 2));  // (B, length, H, d)
  }
  return at::cat(outputs, 1);
}

at::Tensor ContextParallel::ToSequence(const at::Tensor& by_rank) const {
  std::vector<at::Tensor> pieces(num_pieces());
  const int64_t length = by_rank.size(2) / pieces_per_rank();
  for (int64_t rank = 0; rank < group_.size(); ++rank) {
    for (int64_t j = 0; j < pieces_per_rank(); ++j) {
      pieces[PieceOf(rank, j)] = by_rank.select(0, rank).narrow(1, j * length, length);
    }
  }
  return at::cat(pieces, 1);
}

at::Tensor ContextParallel::ByRank(const at::Tensor& sequence) const {
  const int64_t length = sequence.size(1) / num_pieces();
  std::vector<at::Tensor> ranks;
  for (int64_t rank = 0; rank < group_.size(); ++rank) {
    std::vector<at::Tensor> pieces;
    for (int64_t j = 0; j < pieces_per_rank(); ++j) {
      pieces.push_back(sequence.narrow(1, PieceOf(rank, j) * length, length));
    }
    ranks.push_back(at::cat(pieces, 1));
  }
  return at::stack(ranks);
}

at::Tensor ContextParallel::GatherSequence(const at::Tensor& x) const {
  const auto forward = [this](const TensorVector& in) -> Recorded {
    const at::Tensor mine = in[0].contiguous();
    std::vector<int64_t> shape = mine.sizes().vec();
    shape.insert(shape.begin(), group_.size());
    const at::Tensor all = at::empty(shape, mine.options());  // (C, B, S, H, d)
    group_.AllGather(all, mine).Wait();
    return {.outputs = {ToSequence(all)}, .saved = {}};
  };
  const auto backward = [this](const TensorVector&, const TensorVector& gradients) -> TensorVector {
    const at::Tensor summands = ByRank(gradients[0]);  // (C, B, S, H, d)
    const at::Tensor mine = at::empty(summands.sizes().slice(1), summands.options());
    group_.ReduceScatter(mine, summands).Wait();
    return {mine};
  };
  return ApplyFunction({x}, forward, backward)[0];
}

at::Tensor ContextParallel::HeadsToSequence(const at::Tensor& x) const {
  return ApplyFunction(
      {x},
      [this](const TensorVector& in) -> Recorded {
        return {.outputs = {ExchangeHeadsForSequence(in[0])}, .saved = {}};
      },
      [this](const TensorVector&, const TensorVector& gradients) -> TensorVector {
        return {ExchangeSequenceForHeads(gradients[0])};
      })[0];
}

at::Tensor ContextParallel::SequenceToHeads(const at::Tensor& x) const {
  return ApplyFunction(
      {x},
      [this](const TensorVector& in) -> Recorded {
        return {.outputs = {ExchangeSequenceForHeads(in[0])}, .saved = {}};
      },
      [this](const TensorVector&, const TensorVector& gradients) -> TensorVector {
        return {ExchangeHeadsForSequence(gradients[0])};
      })[0];
}

at::Tensor ContextParallel::ExchangeHeadsForSequence(const at::Tensor& x) const {
  const int64_t heads = x.size(2) / group_.size();
  TORCH_CHECK(x.size(2) % group_.size() == 0, "ulysses cannot deal ", x.size(2), " heads out to ", group_.size(),
              " ranks");
  // (B, S, C, heads, d) -> (C, B, S, heads, d): block r goes to rank r.
  const at::Tensor sent =
      x.reshape({x.size(0), x.size(1), group_.size(), heads, x.size(3)}).permute({2, 0, 1, 3, 4}).contiguous();
  const at::Tensor received = at::empty(sent.sizes(), sent.options());
  group_.AllToAll(received, sent).Wait();
  return ToSequence(received);
}

at::Tensor ContextParallel::ExchangeSequenceForHeads(const at::Tensor& x) const {
  const at::Tensor sent = ByRank(x);  // (C, B, S, heads, d)
  const at::Tensor received = at::empty(sent.sizes(), sent.options());
  group_.AllToAll(received, sent).Wait();
  return received.permute({1, 2, 0, 3, 4}).reshape({x.size(0), received.size(2), -1, x.size(3)});
}

}  // namespace titan
