// Scaled dot-product attention of groups of query heads that share key and value heads (GQA; Ainslie et al. 2023,
// arXiv:2305.13245), causal within documents, over all of the keys so far or a sliding window of them (Beltagy et al.
// 2020, arXiv:2004.05150).
//
//   at::Tensor o = Attention(q, k, v, {.first_key = first_key});  // q (B, S, H, d); k, v (B, S, H_kv, d)

#ifndef TITAN_KERNELS_ATTENTION_H_
#define TITAN_KERNELS_ATTENTION_H_

#include <ATen/core/Tensor.h>

namespace titan {

// The keys that each query sees: those of its document up to itself. Never as a matrix, but for fp32 and fp64 on a GPU.
struct VisibleKeys {
  at::Tensor first_key = {};       // (B, S) int64: query i of row b sees the keys first_key[b][i] .. i
  bool several_documents = false;  // false: every first_key is 0
  // For a GPU with several documents: where they start in the B rows one after the other, and in the end B S.
  // Undefined: a mask is made of first_key, for every call.
  at::Tensor document_starts = {};  // (documents + 1) int32, on the GPU
  int64_t longest_document = 0;     // tokens
  int64_t window = 0;               // of these a query sees the last so many, itself among them; 0: all
};

// softmax(q k^T / sqrt(d)) v for each head over the visible keys. Query head h uses key head h / (H / H_kv).
// q (B, S, H, d); k, v (B, S, H_kv, d) -> (B, S, H, d). Differentiable.
//
// On the CPU by a kernel of this folder; bf16 is computed in fp32 there. On a GPU in bf16 by cuDNN, or where there are
// several documents or a window, or in bitwise mode, by the flash attention that comes with LibTorch (Dao 2023,
// arXiv:2307.08691). Neither computes scores that no query sees.
at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const VisibleKeys& visible);

// first_key as (B, 1, S, S) bool: true for the keys first_key .. query.
at::Tensor DocumentCausalMask(const at::Tensor& first_key);

// The same by LibTorch's attention, on any device. mask (B or 1, 1, S, S) bool; undefined: causal.
at::Tensor LibraryAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& mask);

}  // namespace titan

#endif  // TITAN_KERNELS_ATTENTION_H_
