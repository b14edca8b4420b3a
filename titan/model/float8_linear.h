// x weight^T on float8 matrices with a scale each, as torchao's dynamic tensorwise recipe has it: activations and
// weights in e4m3, gradients in e5m2, scaled by their largest magnitude at every step; forward with fast accumulation.
// Part of titan/model/linear.h.

#ifndef TITAN_MODEL_FLOAT8_LINEAR_H_
#define TITAN_MODEL_FLOAT8_LINEAR_H_

#include <ATen/core/Tensor.h>

#include <vector>

#include "titan/model/linear.h"

namespace titan {

// See Linears. Kept for backward: x in float8, and of the weights nothing but themselves.
std::vector<at::Tensor> Float8Linears(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                                      WeightGradients* gradients);

}  // namespace titan

#endif  // TITAN_MODEL_FLOAT8_LINEAR_H_
