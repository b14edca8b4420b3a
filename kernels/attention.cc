#include "kernels/attention.h"

#include <ATen/ops/scaled_dot_product_attention.h>

#include <optional>

#include "kernels/attention_cpu.h"
#include "kernels/function.h"

namespace titan {
namespace {

at::Tensor WithUnitStride(const at::Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

// first_key (B, S), contiguous.
at::Tensor RecordAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& first_key) {
  const auto forward = [&](const TensorVector& in) -> Recorded {
    const at::Tensor q = WithUnitStride(in[0]), k = WithUnitStride(in[1]), v = WithUnitStride(in[2]);
    const AttentionOutput result = AttentionForwardCpu(q, k, v, first_key);
    return {.outputs = {result.out}, .saved = {q, k, v, first_key, result.out, result.normalizer}};
  };
  const auto backward = [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    const AttentionGradients result =
        AttentionBackwardCpu(saved[0], saved[1], saved[2], saved[3], {.out = saved[4], .normalizer = saved[5]},
                             WithUnitStride(gradients[0]));
    return {result.dq, result.dk, result.dv};
  };
  return ApplyFunction({q, k, v}, forward, backward)[0];
}

void CheckShapes(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && k.sizes() == v.sizes() && k.size(2) > 0 && q.size(2) % k.size(2) == 0 &&
                  q.size(0) == k.size(0) && q.size(1) == k.size(1) && q.size(3) == k.size(3),
              "attention: q ", q.sizes(), ", k ", k.sizes(), " and v ", v.sizes(),
              " must be (B, S, H, d), with a multiple of the key heads in q");
}

}  // namespace

at::Tensor LibraryAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& mask) {
  CheckShapes(q, k, v);
  const std::optional<at::Tensor> attention_mask = mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt;
  return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attention_mask,
                                          /*dropout_p=*/0.0, /*is_causal=*/!mask.defined(), /*scale=*/std::nullopt,
                                          /*enable_gqa=*/q.size(2) != k.size(2))
      .transpose(1, 2);
}

at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& first_key,
                     const at::Tensor& mask) {
  if (!q.is_cpu()) return LibraryAttention(q, k, v, mask);
  CheckShapes(q, k, v);
  TORCH_CHECK(first_key.dim() == 2 && first_key.size(0) == q.size(0) && first_key.size(1) == q.size(1) &&
                  first_key.scalar_type() == at::kLong,
              "attention: first_key must be int64 of shape (B, S), got ", first_key.sizes());
  const at::Tensor first = first_key.contiguous();
  if (q.scalar_type() != at::kBFloat16) return RecordAttention(q, k, v, first);
  return RecordAttention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), first).to(at::kBFloat16);
}

}  // namespace titan
