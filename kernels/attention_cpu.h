// Attention of many short rows on the CPU: what attention.h and attention_piece.h do there.
//
//   AttentionOutput out = AttentionForwardCpu(q, k, v, {.first = first_key, .end = end_key});
//   AttentionGradients gradients = AttentionBackwardCpu(q, k, v, {.first = first_key, .end = end_key}, out, dout);
//
// LibTorch's flash attention calls a BLAS product per block of keys, which for heads of 16 or 32 elements costs more
// than the product itself. Here the scores of a few queries are computed at a time, from keys that were packed once,
// and only for the keys that the queries see.

#ifndef TITAN_KERNELS_ATTENTION_CPU_H_
#define TITAN_KERNELS_ATTENTION_CPU_H_

#include <ATen/core/Tensor.h>

#include "kernels/attention_piece.h"

namespace titan {

// Query i of row b sees the keys first[b][i] .. end[b][i] - 1, none if there are none. (B, S) int64, values in [0,
// S_k].
struct KeyRanges {
  at::Tensor first, end;
};

// q (B, S, H, d); k, v (B, S_k, H_kv, d), fp32 or fp64.
AttentionOutput AttentionForwardCpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const KeyRanges& ranges);

// Dao et al. 2022 (arXiv:2205.14135), appendix B.4: probabilities are computed again from the normalizers. Those and
// `forward.out` may be of more keys than these; then dq is the part of the gradient that these keys give.
AttentionGradients AttentionBackwardCpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const KeyRanges& ranges, const AttentionOutput& forward,
                                        const at::Tensor& dout);

}  // namespace titan

#endif  // TITAN_KERNELS_ATTENTION_CPU_H_
