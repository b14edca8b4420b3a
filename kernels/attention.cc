#include "kernels/attention.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/maximum.h>
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

// Of a window, how many keys before its own a query sees, as flash attention wants it; none if it sees all.
std::optional<int64_t> KeysBefore(const VisibleKeys& visible) {
  return visible.window > 0 ? std::optional<int64_t>(visible.window - 1) : std::nullopt;
}

// Where the starts of documents are undefined, each row is one.
at::Tensor FlashAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const VisibleKeys& visible) {
  const bool is_packed = visible.document_starts.defined();
  const int64_t longest = is_packed ? visible.longest_document : q.size(1);
  const std::optional<int64_t> before = KeysBefore(visible);
  // (B, S, H, d) -> (B S, H, d): all documents one after the other.
  const auto pack = [is_packed](const at::Tensor& x) { return is_packed ? x.flatten(0, 1) : x; };
  const auto starts_or_none = [is_packed](const at::Tensor& starts) {
    return is_packed ? std::optional<at::Tensor>(starts) : std::nullopt;
  };
  const auto forward = [&](const TensorVector& in) -> Recorded {
    const std::optional<at::Tensor> starts = starts_or_none(visible.document_starts);
    auto [out, logsumexp, rng_state, unused, debug_mask] = at::_flash_attention_forward(
        pack(in[0]), pack(in[1]), pack(in[2]), starts, starts, longest, longest, /*dropout_p=*/0.0, /*is_causal=*/true,
        /*return_debug_mask=*/false, /*scale=*/std::nullopt, before, /*window_size_right=*/0);
    return {.outputs = {out.view(in[0].sizes())},
            .saved = {in[0], in[1], in[2], out, logsumexp, rng_state, unused, visible.document_starts}};
  };
  const auto backward = [=](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &starts = saved[7];
    auto [dq, dk, dv] = at::_flash_attention_backward(
        pack(gradients[0].contiguous()), pack(q), pack(k), pack(v), saved[3], saved[4], starts, starts, longest,
        longest, /*dropout_p=*/0.0, /*is_causal=*/true, saved[5], saved[6], /*scale=*/std::nullopt, before,
        /*window_size_right=*/0);
    return {dq.view(q.sizes()), dk.view(k.sizes()), dv.view(v.sizes())};
  };
  return ApplyFunction({q, k, v}, forward, backward)[0];
}

// (B, S): the first key that each query sees of its document and of the window.
at::Tensor FirstVisibleKey(const VisibleKeys& visible) {
  if (visible.window == 0) return visible.first_key;
  const int64_t tokens = visible.first_key.size(1);
  const at::Tensor first = at::arange(tokens, visible.first_key.options()).sub_(visible.window - 1);  // (S)
  return at::maximum(visible.first_key, first);
}

at::Tensor AttentionOnDevice(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const VisibleKeys& visible) {
  const bool is_whole = !visible.several_documents && visible.window == 0;
  if (is_whole) return CudnnTakes(q) ? CudnnAttention(q, k, v) : LibraryAttention(q, k, v, /*mask=*/at::Tensor());
  const bool knows_documents = !visible.several_documents || visible.document_starts.defined();
  if (knows_documents && FlashTakes(q)) return FlashAttention(q, k, v, visible);
  return LibraryAttention(q, k, v, DocumentCausalMask(FirstVisibleKey(visible)));
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
  TORCH_CHECK(visible.window >= 0, "attention: the window must be of at least one token (0: none), got ",
              visible.window);
  const int64_t tokens = q.size(1);
  if (visible.window >= tokens) {  // which shortens nothing
    VisibleKeys all = visible;
    all.window = 0;
    return Attention(q, k, v, all);
  }
  if (!q.is_cpu()) return AttentionOnDevice(q, k, v, visible);
  const at::Tensor end_key = at::arange(1, tokens + 1, visible.first_key.options()).expand({q.size(0), tokens});
  return PieceAttention(q, k, v,
                        {.queries = tokens, .keys = tokens, .first_key = FirstVisibleKey(visible), .end_key = end_key});
}

}  // namespace titan
