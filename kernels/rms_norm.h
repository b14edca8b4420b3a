// Root mean square normalisation, alone or fused with the residual addition before it.
//
//   at::Tensor y = RmsNorm(x, weight, 1e-5);                       // x / sqrt(mean(x^2) + eps) * weight
//   auto [y, sum] = AddRmsNorm(branch, residual, weight, 1e-5);    // sum = branch + residual, y = RmsNorm(sum)
//
// Zhang and Sennrich 2019 (arXiv:1910.07467), in the order of Hugging Face's LlamaRMSNorm: the normalised value is
// computed in fp32 (fp64 for fp64), rounded to the dtype of x, then multiplied by the weight.

#ifndef TITAN_KERNELS_RMS_NORM_H_
#define TITAN_KERNELS_RMS_NORM_H_

#include <ATen/core/Tensor.h>

#include <utility>

namespace titan {

// x (..., D), weight (D) of the same dtype -> (..., D). Differentiable in x and weight. On the CPU the gradients are
// the same for any number of threads.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps);

// branch, residual (..., D), weight (D) -> normalised sum (..., D), sum (..., D).
std::pair<at::Tensor, at::Tensor> AddRmsNorm(const at::Tensor& branch, const at::Tensor& residual,
                                             const at::Tensor& weight, double eps);

}  // namespace titan

#endif  // TITAN_KERNELS_RMS_NORM_H_
