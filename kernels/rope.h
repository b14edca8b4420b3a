// Rotary position embedding in Hugging Face's layout ("rotate half"): element i of a head is paired with i + d/2.
//
//   at::Tensor q = Rope(q, cos, sin);  // q (B, S, H, d); cos, sin (B, S, d/2)
//
// Su et al. 2021 (arXiv:2104.09864): y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin. The gradient is the inverse rotation.

#ifndef TITAN_KERNELS_ROPE_H_
#define TITAN_KERNELS_ROPE_H_

#include <ATen/core/Tensor.h>

namespace titan {

// x (B, S, H, d) with even d; cos, sin (B, S, d/2) fp32, or fp64 if x is fp64 -> (B, S, H, d), contiguous.
// Computed in fp32 (fp64) and rounded once. Differentiable in x.
at::Tensor Rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

}  // namespace titan

#endif  // TITAN_KERNELS_ROPE_H_
