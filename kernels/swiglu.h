// The gate of Llama's feed-forward network: silu(gate) * up, with silu(a) = a / (1 + exp(-a)).
//
//   at::Tensor inner = SwiGlu(at::linear(x, w1), at::linear(x, w3));  // (B, S, ffn_hidden_dim)
//
// Shazeer 2020 (arXiv:2002.05202). One pass forward and one backward; only the two inputs are kept.

#ifndef TITAN_KERNELS_SWIGLU_H_
#define TITAN_KERNELS_SWIGLU_H_

#include <ATen/core/Tensor.h>

namespace titan {

// gate, up: any equal shape -> the same shape. Computed in fp32 (fp64 for fp64) and rounded once. Differentiable.
at::Tensor SwiGlu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace titan

#endif  // TITAN_KERNELS_SWIGLU_H_
