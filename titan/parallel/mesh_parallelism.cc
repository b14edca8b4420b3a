#include "titan/parallel/mesh_parallelism.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

#include "titan/model/block.h"
#include "titan/model/context.h"
#include "titan/parallel/tensor_parallel.h"

namespace titan {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

namespace {

const MeshParallelism& Saved(AutogradContext* context) {
  return *reinterpret_cast<const MeshParallelism*>(context->saved_data["self"].toInt());
}

}  // namespace

class GatherSequenceFunction : public torch::autograd::Function<GatherSequenceFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t self) {
    context->saved_data["self"] = self;
    return Saved(context).GatherSequenceForward(x);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    return {Saved(context).GatherSequenceBackward(gradients[0]), at::Tensor()};
  }
};

class HeadsToSequenceFunction : public torch::autograd::Function<HeadsToSequenceFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t self) {
    context->saved_data["self"] = self;
    return Saved(context).ExchangeHeadsForSequence(x);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    return {Saved(context).ExchangeSequenceForHeads(gradients[0]), at::Tensor()};
  }
};

class SequenceToHeadsFunction : public torch::autograd::Function<SequenceToHeadsFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t self) {
    context->saved_data["self"] = self;
    return Saved(context).ExchangeSequenceForHeads(x);
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    return {Saved(context).ExchangeHeadsForSequence(gradients[0]), at::Tensor()};
  }
};

MeshParallelism::MeshParallelism(const ParallelGroups& groups, const Options& options)
    : tp_(groups.tp()), cp_(groups.cp()), options_(options) {}

at::Tensor MeshParallelism::LocalTokens(const at::Tensor& values) const {
  if (cp_.size() == 1) return values;
  const int64_t length = values.size(1) / num_pieces();
  TORCH_CHECK(values.size(1) % num_pieces() == 0, "context parallelism cannot cut sequences of ", values.size(1),
              " tokens into ", num_pieces(), " equal pieces");
  std::vector<at::Tensor> pieces;
  for (int64_t j = 0; j < pieces_per_rank(); ++j) {
    pieces.push_back(values.narrow(1, PieceOf(cp_.rank(), j) * length, length));
  }
  return at::cat(pieces, 1);
}

void MeshParallelism::PrepareAttention(const at::Tensor& positions, bool several_documents,
                                       BatchContext& context) const {
  if (cp_.size() == 1 || options_.method == ContextParallelMethod::kUlysses) {
    return BlockParallelism::PrepareAttention(positions, several_documents, context);
  }
  const at::Tensor first_key = FirstKeys(positions);  // (B, C S)
  const int64_t length = positions.size(1) / num_pieces();
  for (int64_t j = 0; j < pieces_per_rank(); ++j) {
    const int64_t begin = PieceOf(cp_.rank(), j) * length;
    const at::Tensor key = at::arange(begin + length, first_key.options());           // (keys)
    const at::Tensor query = at::arange(begin, begin + length, first_key.options());  // (length)
    const at::Tensor first = first_key.narrow(1, begin, length).unsqueeze(2);         // (B, length, 1)
    context.piece_masks.push_back(first.le(key).logical_and(key.le(query.unsqueeze(1))).unsqueeze(1));
  }
}

at::Tensor MeshParallelism::GatherTokens(const at::Tensor& x, const BatchContext& context) const {
  if (tp_.size() == 1) return x;
  const at::IntArrayRef tokens = context.positions.sizes();  // (B, S)
  return GatherRows(x.reshape({-1, x.size(-1)}), tp_).view({tokens[0], tokens[1], x.size(-1)});
}

at::Tensor MeshParallelism::ReduceScatterTokens(const at::Tensor& summand, const BatchContext&) const {
  if (tp_.size() == 1) return summand;
  return ReduceScatterRows(summand.reshape({-1, summand.size(-1)}), tp_).unsqueeze(0);
}

at::Tensor MeshParallelism::Embed(const at::Tensor& tokens, const at::Tensor& table,
                                  const BatchContext& context) const {
  if (tp_.size() == 1) return BlockParallelism::Embed(tokens, table, context);
  return ReduceScatterTokens(VocabularyEmbedding(tokens, table, tp_), context);
}

at::Tensor MeshParallelism::LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                                               const at::Tensor& labels) const {
  if (tp_.size() == 1) return BlockParallelism::LinearCrossEntropy(hidden, weight, labels);
  return VocabularyCrossEntropy(hidden, weight, labels, tp_);
}

at::Tensor MeshParallelism::Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const BatchContext& context) const {
  if (cp_.size() == 1) return BlockParallelism::Attention(q, k, v, context);
  if (options_.method == ContextParallelMethod::kUlysses) {
    const at::Tensor o =
        BlockParallelism::Attention(HeadsToSequence(q), HeadsToSequence(k), HeadsToSequence(v), context);
    return SequenceToHeads(o);
  }
  const at::Tensor all_k = GatherSequence(k), all_v = GatherSequence(v);  // (B, C S, H_kv, d)
  const int64_t length = q.size(1) / pieces_per_rank();
  std::vector<at::Tensor> outputs;
  for (int64_t j = 0; j < pieces_per_rank(); ++j) {
    const int64_t keys = (PieceOf(cp_.rank(), j) + 1) * length;  // later ones are masked for all of the piece
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

at::Tensor MeshParallelism::ToSequence(const at::Tensor& by_rank) const {
  std::vector<at::Tensor> pieces(num_pieces());
  const int64_t length = by_rank.size(2) / pieces_per_rank();
  for (int64_t rank = 0; rank < cp_.size(); ++rank) {
    for (int64_t j = 0; j < pieces_per_rank(); ++j) {
      pieces[PieceOf(rank, j)] = by_rank.select(0, rank).narrow(1, j * length, length);
    }
  }
  return at::cat(pieces, 1);
}

at::Tensor MeshParallelism::ByRank(const at::Tensor& sequence) const {
  const int64_t length = sequence.size(1) / num_pieces();
  std::vector<at::Tensor> ranks;
  for (int64_t rank = 0; rank < cp_.size(); ++rank) {
    std::vector<at::Tensor> pieces;
    for (int64_t j = 0; j < pieces_per_rank(); ++j) {
      pieces.push_back(sequence.narrow(1, PieceOf(rank, j) * length, length));
    }
    ranks.push_back(at::cat(pieces, 1));
  }
  return at::stack(ranks);
}

at::Tensor MeshParallelism::GatherSequence(const at::Tensor& x) const {
  return GatherSequenceFunction::apply(x, reinterpret_cast<int64_t>(this));
}

at::Tensor MeshParallelism::GatherSequenceForward(const at::Tensor& x) const {
  const at::Tensor mine = x.contiguous();
  std::vector<int64_t> shape = mine.sizes().vec();
  shape.insert(shape.begin(), cp_.size());
  const at::Tensor all = at::empty(shape, mine.options());  // (C, B, S, H, d)
  cp_.AllGather(all, mine).Wait();
  return ToSequence(all);
}

at::Tensor MeshParallelism::GatherSequenceBackward(const at::Tensor& gradient) const {
  const at::Tensor summands = ByRank(gradient);  // (C, B, S, H, d)
  at::Tensor mine = at::empty(summands.sizes().slice(1), summands.options());
  cp_.ReduceScatter(mine, summands).Wait();
  return mine;
}

at::Tensor MeshParallelism::HeadsToSequence(const at::Tensor& x) const {
  return HeadsToSequenceFunction::apply(x, reinterpret_cast<int64_t>(this));
}

at::Tensor MeshParallelism::SequenceToHeads(const at::Tensor& x) const {
  return SequenceToHeadsFunction::apply(x, reinterpret_cast<int64_t>(this));
}

at::Tensor MeshParallelism::ExchangeHeadsForSequence(const at::Tensor& x) const {
  const int64_t heads = x.size(2) / cp_.size();
  TORCH_CHECK(x.size(2) % cp_.size() == 0, "ulysses cannot deal ", x.size(2), " heads out to ", cp_.size(), " ranks");
  // (B, S, C, heads, d) -> (C, B, S, heads, d): block r goes to rank r.
  const at::Tensor sent =
      x.reshape({x.size(0), x.size(1), cp_.size(), heads, x.size(3)}).permute({2, 0, 1, 3, 4}).contiguous();
  const at::Tensor received = at::empty(sent.sizes(), sent.options());
  cp_.AllToAll(received, sent).Wait();
  return ToSequence(received);
}

at::Tensor MeshParallelism::ExchangeSequenceForHeads(const at::Tensor& x) const {
  const at::Tensor sent = ByRank(x);  // (C, B, S, heads, d)
  const at::Tensor received = at::empty(sent.sizes(), sent.options());
  cp_.AllToAll(received, sent).Wait();
  return received.permute({1, 2, 0, 3, 4}).reshape({x.size(0), received.size(2), -1, x.size(3)});
}

}  // namespace titan
