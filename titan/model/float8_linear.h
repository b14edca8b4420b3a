// x weight^T on float8 matrices, scaled by their largest magnitudes at every step, as torchao's dynamic recipes have
// it; forward with fast accumulation. Part of titan/model/linear.h.
//
// tensorwise: a scale for each matrix; activations and weights in e4m3, gradients in e5m2.
// rowwise: a power of two for each row along what is summed over; all in e4m3.
// rowwise with weight gradients in high precision: the same, but those are products of x and dy as they are.

#ifndef TITAN_MODEL_FLOAT8_LINEAR_H_
#define TITAN_MODEL_FLOAT8_LINEAR_H_

#include <ATen/core/Tensor.h>

#include <vector>

#include "titan/model/linear.h"

namespace titan {

// See Linears; all of one precision. Kept for backward: x in float8 (or as it is for exact weight gradients), and of
// the weights nothing but themselves.
std::vector<at::Tensor> Float8Linears(const at::Tensor& x, const std::vector<LinearWeight>& weights,
                                      WeightGradients* gradients);

}  // namespace titan

#endif  // TITAN_MODEL_FLOAT8_LINEAR_H_
