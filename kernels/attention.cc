#include "kernels/attention.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <optional>

#include "kernels/attention_piece.h"
#include "kernels/function.h"

namespace titan {

at::Tensor LibraryAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& mask) {
  const std::optional<at::Tensor> attention_mask = mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt;
  const auto attend = [&](const TensorVector& in) {
    return at::scaled_dot_product_attention(in[0].transpose(1, 2), in[1].transpose(1, 2), in[2].transpose(1, 2),
                                            attention_mask, /*dropout_p=*/0.0, /*is_causal=*/!mask.defined(),
                                            /*scale=*/std::nullopt, /*enable_gqa=*/q.size(2) != k.size(2))
        .transpose(1, 2);
  };
  return ApplyComposite({q, k, v}, attend);
}

at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& first_key,
                     const at::Tensor& mask) {
  if (!q.is_cpu()) return LibraryAttention(q, k, v, mask);
  const int64_t tokens = q.size(1);
  const at::Tensor end_key = at::arange(1, tokens + 1, first_key.options()).expand({q.size(0), tokens});
  return PieceAttention(q, k, v, {.queries = tokens, .keys = tokens, .first_key = first_key, .end_key = end_key});
}

}  // namespace titan
