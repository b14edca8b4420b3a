#include "kernels/attention.h"

#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "kernels/attention_cpu.h"

namespace titan {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

at::Tensor WithUnitStride(const at::Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

class AttentionFunction : public torch::autograd::Function<AttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q_in, const at::Tensor& k_in,
                            const at::Tensor& v_in, const at::Tensor& first_key_in) {
    const at::Tensor q = WithUnitStride(q_in), k = WithUnitStride(k_in), v = WithUnitStride(v_in);
    const at::Tensor first_key = first_key_in.contiguous();
    const AttentionOutput result = AttentionForwardCpu(q, k, v, first_key);
    context->save_for_backward({q, k, v, first_key, result.out, result.normalizer});
    return result.out;
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const tensor_list saved = context->get_saved_variables();
    const AttentionGradients result =
        AttentionBackwardCpu(saved[0], saved[1], saved[2], saved[3], {.out = saved[4], .normalizer = saved[5]},
                             WithUnitStride(gradients[0]));
    return {result.dq, result.dk, result.dv, at::Tensor()};
  }
};

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
  if (q.scalar_type() != at::kBFloat16) return AttentionFunction::apply(q, k, v, first_key);
  return AttentionFunction::apply(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), first_key).to(at::kBFloat16);
}

}  // namespace titan
