#include "titan/parallel/ring_attention.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <utility>

#include "kernels/function.h"

namespace titan {
namespace {

// On its way: `tensor` is what the rank before this one has handed on, when the work is done.
struct Arriving {
  at::Tensor tensor;
  Work work;

  at::Tensor Wait() {
    work.Wait();
    return std::move(tensor);
  }
};

// Every rank hands a tensor of the same shape to the next one.
Arriving HandOn(const at::Tensor& tensor, Communicator& group) {
  const int64_t next = (group.rank() + 1) % group.size(), previous = (group.rank() + group.size() - 1) % group.size();
  Arriving arriving{.tensor = at::empty_like(tensor), .work = {}};
  arriving.work = group.Exchange({{tensor, next}}, {{arriving.tensor, previous}});
  return arriving;
}

// Calls f(s, k, v) for the keys and values of the rank that is s before this one, s = 0, 1, ...
template <typename F>
void ForEachRank(const at::Tensor& k, const at::Tensor& v, Communicator& group, const F& f) {
  at::Tensor both = at::stack({k, v});  // (2, B, S, H_kv, d)
  for (int64_t s = 0; s < group.size(); ++s) {
    Arriving next;
    if (s + 1 < group.size()) next = HandOn(both, group);
    f(s, both.select(0, 0), both.select(0, 1));
    if (s + 1 < group.size()) both = next.Wait();
  }
}

AttentionOutput Forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const std::vector<AttentionPiece>& pieces, Communicator& group) {
  AttentionOutput all;
  ForEachRank(k, v, group, [&](int64_t s, const at::Tensor& keys, const at::Tensor& values) {
    if (pieces[s].queries == 0) return;
    AttentionOutput of_piece = AttendToPiece(q, keys, values, pieces[s]);
    if (s == 0) {
      all = std::move(of_piece);
    } else {
      MergeAttention(of_piece, pieces[s], all);
    }
  });
  return all;
}

AttentionGradients Backward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOutput& all,
                            const at::Tensor& dout, const std::vector<AttentionPiece>& pieces, Communicator& group) {
  const auto wide = q.options().dtype(q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const at::Tensor dq = at::zeros(q.sizes(), wide);
  at::Tensor own, others;  // gradients of keys and values (2, B, S, H_kv, d): this rank's, and those that travel
  ForEachRank(k, v, group, [&](int64_t s, const at::Tensor& keys, const at::Tensor& values) {
    // What the ranks between have added up for those keys comes while this rank computes its summand.
    Arriving sum;
    if (s >= 2) sum = HandOn(others, group);
    const at::Tensor summand = at::zeros({2, k.size(0), k.size(1), k.size(2), k.size(3)}, wide);
    if (const AttentionPiece& piece = pieces[s]; piece.queries > 0) {
      const AttentionGradients gradients = PieceGradients(q, keys, values, piece, all, dout);
      dq.narrow(1, piece.query_begin, piece.queries).add_(gradients.dq);
      summand.select(0, 0).narrow(1, 0, piece.keys).copy_(gradients.dk);
      summand.select(0, 1).narrow(1, 0, piece.keys).copy_(gradients.dv);
    }
    if (s >= 2) summand.add_(sum.Wait());
    (s == 0 ? own : others) = summand;
  });
  if (others.defined()) own.add_(HandOn(others, group).Wait());
  return {.dq = dq, .dk = own.select(0, 0), .dv = own.select(0, 1)};
}

}  // namespace

at::Tensor RingAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const std::vector<AttentionPiece>& pieces, Communicator& group) {
  TORCH_CHECK(static_cast<int64_t>(pieces.size()) == group.size() && pieces[0].queries == q.size(1),
              "ring attention: ", pieces.size(), " pieces for ", group.size(), " ranks, ", pieces[0].queries,
              " queries of ", q.size(1), " in the first");
  const auto forward = [&](const TensorVector& in) -> Recorded {
    const AttentionOutput all = Forward(in[0], in[1], in[2], pieces, group);
    const at::Tensor out = all.out.to(in[0].scalar_type());
    return {.outputs = {out}, .saved = {in[0], in[1], in[2], out, all.normalizer}};
  };
  const auto backward = [pieces, &group](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    const AttentionGradients result =
        Backward(saved[0], saved[1], saved[2], {.out = saved[3], .normalizer = saved[4]}, gradients[0], pieces, group);
    const at::ScalarType dtype = saved[0].scalar_type();
    return {result.dq.to(dtype), result.dk.to(dtype), result.dv.to(dtype)};
  };
  return ApplyFunction({q, k, v}, forward, backward)[0];
}

}  // namespace titan
