// The output projection and the cross-entropy in one, chunk by chunk of rows, so that the logits of all rows are never
// held at once: at 128k words they would be the largest tensor of the whole step.
//
//   at::Tensor loss_sum = LinearCrossEntropy(hidden, output_weight, labels);  // scalar
//   (loss_sum * (1.0 / valid_tokens)).backward();
//
// The gradients of the sum are computed with the forward pass, while a chunk's softmax is at hand (the method of Liger
// Kernel, arXiv:2410.10989); backward only scales them. That costs no second projection, and holds one gradient of
// `hidden` and one of `weight`, which backward would need anyhow.

#ifndef TITAN_KERNELS_LINEAR_CROSS_ENTROPY_H_
#define TITAN_KERNELS_LINEAR_CROSS_ENTROPY_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace titan {

constexpr int64_t kIgnoredLabel = -100;

// Who adds up the gradients of the weight, so that they are never held twice: they are there when the forward pass
// ends.
struct LossWeightGradient {
  at::Tensor scale;  // scalar, of any floating dtype, on the device: what backward of the loss will be called with
  std::function<void(const at::Tensor& x, const at::Tensor& dy)> add;  // adds dy^T x, dy (rows, V), x (rows, D)
};

// Sum over rows of log(sum(exp(logits))) - logits[label], logits = hidden weight^T, where the label is not -100.
// hidden (N, D), weight (V, D) of one dtype; labels (N) int64 in [0, V) or -100: others throw on the CPU and make the
// loss NaN on a GPU. Returns a scalar, fp32 (fp64 for fp64): softmax and sums are computed in that. Differentiable in
// hidden and weight; with `weight_gradient`, in hidden alone, and only with the gradient that it names.
at::Tensor LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                              const LossWeightGradient* weight_gradient = nullptr);

// dlogits weight, of dlogits (rows, V) and weight (V, D), into `out` (rows, D): on the CPU in parts of V, so that the
// error of a float32 sum does not grow with the vocabulary. For losses that hold a part of the weight.
void HiddenGradient(const at::Tensor& dlogits, const at::Tensor& weight, at::Tensor out);

}  // namespace titan

#endif  // TITAN_KERNELS_LINEAR_CROSS_ENTROPY_H_
