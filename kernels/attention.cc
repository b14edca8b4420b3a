#include "kernels/attention.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <optional>

#include "kernels/attention_piece.h"
#include "kernels/function.h"

namespace titan {
namespace {

bool IsHalf(const at::Tensor& x) { return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf; }

// cuDNN's fused attention, on Hopper twice as fast as the flash attention that ATen would choose. Its backward adds up
// in an order that changes from run to run.
bool CudnnTakes(const at::Tensor& q) {
  return IsHalf(q) && q.size(3) % 8 == 0 && q.size(3) <= 128 && !at::globalContext().deterministicAlgorithms();
}

bool FlashTakes(const at::Tensor& q) { return IsHalf(q) && q.size(3) % 8 == 0 && q.size(3) <= 256; }

// Causal. (B, S, H, d) as (B, H, S, d), which is what ATen's operators take, without a copy.
at::Tensor CudnnAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const auto forward = [](const TensorVector& in) -> Recorded {
    const at::Tensor q = in[0].transpose(1, 2), k = in[1].transpose(1, 2), v = in[2].transpose(1, 2);
    auto [out, logsumexp, cum_seq_q, cum_seq_k, max_q, max_k, seed, offset, debug_mask] =
        at::_scaled_dot_product_cudnn_attention(q, k, v, /*attn_bias=*/std::nullopt, /*compute_log_sumexp=*/true,
                                                /*dropout_p=*/0.0, /*is_causal=*/true);
    return {.outputs = {out.transpose(1, 2)}, .saved = {in[0], in[1], in[2], out, logsumexp, seed, offset}};
  };
  const auto backward = [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    const at::Tensor q = saved[0].transpose(1, 2), k = saved[1].transpose(1, 2), v = saved[2].transpose(1, 2), none;
    auto [dq, dk, dv] = at::_scaled_dot_product_cudnn_attention_backward(
        gradients[0].transpose(1, 2), q, k, v, saved[3], saved[4], saved[5], saved[6], /*attn_bias=*/none,
        /*cum_seq_q=*/none, /*cum_seq_k=*/none, q.size(2), k.size(2), /*dropout_p=*/0.0, /*is_causal=*/true);
    return {dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)};
  };
  return ApplyFunction({q, k, v}, forward, backward)[0];
}

// (B, S, H, d) -> (B S, H, d): all documents one after the other.
at::Tensor Packed(const at::Tensor& x) { return x.flatten(0, 1); }

at::Tensor FlashAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const VisibleKeys& visible) {
  const int64_t longest = visible.longest_document;
  const auto forward = [&](const TensorVector& in) -> Recorded {
    auto [out, logsumexp, rng_state, unused, debug_mask] = at::_flash_attention_forward(
        Packed(in[0]), Packed(in[1]), Packed(in[2]), visible.document_starts, visible.document_starts, longest, longest,
        /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false);
    return {.outputs = {out.view(in[0].sizes())},
            .saved = {in[0], in[1], in[2], out, logsumexp, rng_state, unused, visible.document_starts}};
  };
  const auto backward = [longest](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &starts = saved[7];
    auto [dq, dk, dv] = at::_flash_attention_backward(Packed(gradients[0].contiguous()), Packed(q), Packed(k),
                                                      Packed(v), saved[3], saved[4], starts, starts, longest, longest,
                                                      /*dropout_p=*/0.0, /*is_causal=*/true, saved[5], saved[6]);
    return {dq.view(q.sizes()), dk.view(k.sizes()), dv.view(v.sizes())};
  };
  return ApplyFunction({q, k, v}, forward, backward)[0];
}

at::Tensor AttentionOnDevice(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const VisibleKeys& visible) {
  if (!visible.several_documents) {
    return CudnnTakes(q) ? CudnnAttention(q, k, v) : LibraryAttention(q, k, v, /*mask=*/at::Tensor());
  }
  if (visible.document_starts.defined() && FlashTakes(q)) return FlashAttention(q, k, v, visible);
  return LibraryAttention(q, k, v, DocumentCausalMask(visible.first_key));
}

}  // namespace

at::Tensor DocumentCausalMask(const at::Tensor& first_key) {
  const at::Tensor key = at::arange(first_key.size(1), first_key.options());  // (S)
  const at::Tensor visible = first_key.unsqueeze(2).le(key);                  // (B, S, S)
  return visible.tril().unsqueeze(1);
}

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

at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const VisibleKeys& visible) {
  if (!q.is_cpu()) return AttentionOnDevice(q, k, v, visible);
  const int64_t tokens = q.size(1);
  const at::Tensor end_key = at::arange(1, tokens + 1, visible.first_key.options()).expand({q.size(0), tokens});
  return PieceAttention(q, k, v,
                        {.queries = tokens, .keys = tokens, .first_key = visible.first_key, .end_key = end_key});
}

}  // namespace titan
