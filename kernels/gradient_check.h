// Compares an operator, forward and backward, with a reference made of plain ATen operators in float64.
//
//   ExpectMatchesReference({x, weight}, at::kFloat, 1e-6,
//                          [&](const auto& in) { return RmsNorm(in[0], in[1], 1e-5); },
//                          [&](const auto& in) { return in[0] / (in[0].square().mean(-1, true) + 1e-5).sqrt() * in[1];
//                          });

#ifndef TITAN_KERNELS_GRADIENT_CHECK_H_
#define TITAN_KERNELS_GRADIENT_CHECK_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace titan {

// Standard normal values, float64; the same for the same arguments.
at::Tensor Normal(at::IntArrayRef shape, uint64_t seed);

// Uniform integers in [0, high), int64.
at::Tensor Integers(int64_t high, at::IntArrayRef shape, uint64_t seed);

// ||actual - expected|| / ||expected|| in float64; 0 for two empty tensors.
double RelativeError(const at::Tensor& actual, const at::Tensor& expected);

using Operator = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;

// The CPU, and a GPU where the build and the machine have one.
std::vector<at::Device> TestDevices();

// Both get `inputs` (float64) rounded to `dtype`, the reference in float64. Expects the relative error of the output
// and of the gradient of every input under a fixed random output gradient to be at most `tolerance`. `actual` runs on
// each of TestDevices(), where its inputs are.
void ExpectMatchesReference(const std::vector<at::Tensor>& inputs, at::ScalarType dtype, double tolerance,
                            const Operator& actual, const Operator& reference);

}  // namespace titan

#endif  // TITAN_KERNELS_GRADIENT_CHECK_H_
