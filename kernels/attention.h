// Scaled dot-product attention of groups of query heads that share key and value heads (GQA; Ainslie et al. 2023,
// arXiv:2305.13245), causal within documents.
//
//   at::Tensor o = Attention(q, k, v, first_key, mask);  // q (B, S, H, d); k, v (B, S, H_kv, d)

#ifndef TITAN_KERNELS_ATTENTION_H_
#define TITAN_KERNELS_ATTENTION_H_

#include <ATen/core/Tensor.h>

namespace titan {

// softmax(q k^T / sqrt(d)) v for each head, where query i of row b sees the keys first_key[b][i] .. i. Query head h
// uses key head h / (H / H_kv). q (B, S, H, d); k, v (B, S, H_kv, d) -> (B, S, H, d). Differentiable.
//
// Which keys a query sees is given twice, since each device wants it in another form:
//   first_key (B, S) int64: used on the CPU, by a kernel of this folder. bf16 is computed in fp32 there.
//   mask (B, 1, S, S) bool: used elsewhere, by the library's fused attention; undefined when every first_key is 0.
at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& first_key,
                     const at::Tensor& mask);

// The same by LibTorch's attention, on any device.
at::Tensor LibraryAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& mask);

}  // namespace titan

#endif  // TITAN_KERNELS_ATTENTION_H_
