// Attention of many short rows on the CPU: what attention.h does there.
//
//   AttentionOutput out = AttentionForwardCpu(q, k, v, first_key);
//   AttentionGradients gradients = AttentionBackwardCpu(q, k, v, first_key, out, dout);
//
// LibTorch's flash attention calls a BLAS product per block of keys, which for heads of 16 or 32 elements costs more
// than the product itself. Here the scores of a few queries are computed at a time, from keys that were packed once,
// and only for the keys that the queries see.

#ifndef TITAN_KERNELS_ATTENTION_CPU_H_
#define TITAN_KERNELS_ATTENTION_CPU_H_

#include <ATen/core/Tensor.h>

namespace titan {

struct AttentionOutput {
  at::Tensor out;         // (B, S, H, d), contiguous
  at::Tensor normalizer;  // (B, H, S): base-2 logarithm of the sum of the exponentials of a row's scores
};

struct AttentionGradients {
  at::Tensor dq;      // (B, S, H, d)
  at::Tensor dk, dv;  // (B, S, H_kv, d)
};

// q (B, S, H, d); k, v (B, S, H_kv, d), fp32 or fp64, heads contiguous. Query i of row b sees the keys
// first_key[b][i] .. i; first_key (B, S) int64, contiguous, values in [0, i].
AttentionOutput AttentionForwardCpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const at::Tensor& first_key);

// Dao et al. 2022 (arXiv:2205.14135), appendix B.4: probabilities are computed again from the normalizers.
AttentionGradients AttentionBackwardCpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const at::Tensor& first_key, const AttentionOutput& forward,
                                        const at::Tensor& dout);

}  // namespace titan

#endif  // TITAN_KERNELS_ATTENTION_CPU_H_
