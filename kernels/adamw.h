// One AdamW step over all parameters of a model at once, with the gradient clipping fused in.
//
//   AdamWStep({.parameters = parameters, .gradients = gradients, .exp_avg = m, .exp_avg_sq = v},
//             {.lr = 3e-4, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .num_updates = 1,
//              .gradient_scale = 1});
//
// For each element, in the order of torch.optim.AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), t = num_updates:
//   g *= gradient_scale
//   p *= 1 - lr weight_decay
//   m += (1 - beta1) (g - m)
//   v  = beta2 v + (1 - beta2) g^2
//   p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
// Elementwise, so the result does not depend on the number of threads. The averages may be bf16 beside fp32 parameters:
// they are rounded to nearest when they are stored, after the parameter was computed with what had not been rounded.

#ifndef TITAN_KERNELS_ADAMW_H_
#define TITAN_KERNELS_ADAMW_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace titan {

// Lists of equal length; tensor i of each has the same shape and dtype (fp32 or fp64, one for all tensors), but for
// copies and averages, all contiguous on one device.
struct AdamWTensors {
  at::TensorList parameters;
  at::TensorList gradients;   // only read
  at::TensorList exp_avg;     // of the parameters' dtype, or bf16 with fp32 parameters; so are all
  at::TensorList exp_avg_sq;  // of exp_avg's dtype
  // bf16, or an empty list: overwritten with the updated parameters, rounded, in the same pass. What is gathered for
  // the next step.
  at::TensorList copies = {};
};

struct AdamWArguments {
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  int64_t num_updates;  // 1 for the first step
  double gradient_scale;
};

// Updates parameters, exp_avg and exp_avg_sq in place, and writes copies.
void AdamWStep(const AdamWTensors& tensors, const AdamWArguments& arguments);

}  // namespace titan

#endif  // TITAN_KERNELS_ADAMW_H_
