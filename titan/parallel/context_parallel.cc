#include "titan/parallel/context_parallel.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>

#include <vector>

#include "kernels/attention.h"
#include "kernels/attention_piece.h"
#include "kernels/function.h"
#include "titan/model/block.h"
#include "titan/model/context.h"
#include "titan/model/keeper.h"
#include "titan/parallel/ring_attention.h"

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

void ContextParallel::PrepareAttention(const at::Tensor& positions, const ContextOptions& options,
                                       BatchContext& context) const {
  if (options_.method == ContextParallelMethod::kUlysses) {
    return BlockParallelism::SingleRank().PrepareAttention(positions, options, context);
  }
  const bool several_documents = options.HasSeveralDocuments(positions.size(0));
  const at::Tensor first_key = FirstKeys(positions);  // (B, C S)
  if (options_.method == ContextParallelMethod::kAllToAll) {
    for (int64_t s = 0; s < group_.size(); ++s) {
      const int64_t owner = (group_.rank() + group_.size() - s) % group_.size();
      context.pieces.push_back(PieceOfRank(owner, positions.size(1), several_documents ? first_key : at::Tensor()));
    }
  } else if (positions.is_cpu()) {
    context.pieces = {PieceOfAll(first_key)};
  } else {
    context.piece_masks = MasksOfAll(first_key);
  }
}

// The keys that this rank sees of another's are counted by the pieces before them, in the order of the sequence. Of a
// rank before this one, all queries see the first piece and nothing of the second; of a rank behind, the queries of the
// second piece see both; in order, all see all, or none.
AttentionPiece ContextParallel::PieceOfRank(int64_t rank, int64_t sequence, const at::Tensor& first_key) const {
  const int64_t length = sequence / num_pieces(), tokens = length * pieces_per_rank();
  AttentionPiece piece{.queries = tokens, .keys = tokens, .is_causal = rank == group_.rank()};
  if (rank < group_.rank()) piece.keys = length;
  if (rank > group_.rank()) {
    piece.query_begin = length;
    piece.queries = tokens - length;
  }
  if (!first_key.defined() || piece.queries == 0) return piece;
  // How many of the rank's keys are before these places of the sequence.
  const auto keys_before = [&](const at::Tensor& places) {
    at::Tensor count;
    for (int64_t j = 0; j < pieces_per_rank(); ++j) {
      const at::Tensor of_piece = (places - PieceOf(rank, j) * length).clamp(0, length);
      count = j == 0 ? of_piece : count + of_piece;
    }
    return count.narrow(1, piece.query_begin, piece.queries);
  };
  const at::Tensor place = at::arange(sequence, first_key.options()).expand_as(first_key);
  piece.first_key = keys_before(LocalTokens(first_key));
  piece.end_key = keys_before(LocalTokens(place + 1));
  // On a GPU, to look would be to wait for it.
  if (first_key.is_cpu() && !piece.first_key.lt(piece.end_key).any().item<bool>()) piece.queries = 0;
  return piece;
}

AttentionPiece ContextParallel::PieceOfAll(const at::Tensor& first_key) const {
  const int64_t sequence = first_key.size(1), length = sequence / num_pieces();
  const at::Tensor place = at::arange(sequence, first_key.options()).expand_as(first_key);
  return {.queries = length * pieces_per_rank(),
          .keys = (PieceOf(group_.rank(), pieces_per_rank() - 1) + 1) * length,  // later ones are seen by none
          .first_key = LocalTokens(first_key),
          .end_key = LocalTokens(place + 1)};
}

std::vector<at::Tensor> ContextParallel::MasksOfAll(const at::Tensor& first_key) const {
  const int64_t length = first_key.size(1) / num_pieces();
  std::vector<at::Tensor> masks;
  for (int64_t j = 0; j < pieces_per_rank(); ++j) {
    const int64_t begin = PieceOf(group_.rank(), j) * length;
    const at::Tensor key = at::arange(begin + length, first_key.options());           // (keys)
    const at::Tensor query = at::arange(begin, begin + length, first_key.options());  // (length)
    const at::Tensor first = first_key.narrow(1, begin, length).unsqueeze(2);         // (B, length, 1)
    masks.push_back(first.le(key).logical_and(key.le(query.unsqueeze(1))).unsqueeze(1));
  }
  return masks;
}

at::Tensor ContextParallel::Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const BatchContext& context) const {
  switch (options_.method) {
    case ContextParallelMethod::kAllGather:
      return AttentionToAll(q, GatherSequence(k), GatherSequence(v), context);
    case ContextParallelMethod::kAllToAll: {
      const KeepScope keep(Keeper::Always(context.keeper));
      return RingAttention(q, k, v, context.pieces, group_);
    }
    case ContextParallelMethod::kUlysses:
      break;
  }
  return SequenceToHeads(
      BlockParallelism::SingleRank().Attention(HeadsToSequence(q), HeadsToSequence(k), HeadsToSequence(v), context));
}

// k, v (B, C S, H_kv, d).
at::Tensor ContextParallel::AttentionToAll(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                           const BatchContext& context) const {
  const KeepScope keep(Keeper::Always(context.keeper));
  if (q.is_cpu()) return PieceAttention(q, k, v, context.pieces.front());
  const int64_t length = q.size(1) / pieces_per_rank();
  std::vector<at::Tensor> outputs;
  for (int64_t j = 0; j < pieces_per_rank(); ++j) {
    const at::Tensor& mask = context.piece_masks[j];  // (B, 1, length, keys)
    outputs.push_back(LibraryAttention(q.narrow(1, j * length, length), k.narrow(1, 0, mask.size(3)),
                                       v.narrow(1, 0, mask.size(3)), mask));
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
