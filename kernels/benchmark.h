// Times an operator beside the same computation in ATen operators, forward and backward.
//
//   CompareForwardBackward("rms_norm (8, 256, 2048)", inputs, bytes, ours, composite);
//
// prints one line: milliseconds of both (median of interleaved runs), their ratio, and what ours moves in GB/s.

#ifndef TITAN_KERNELS_BENCHMARK_H_
#define TITAN_KERNELS_BENCHMARK_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace titan {

using BenchmarkedOperator = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;

// `inputs` that are floating point get gradients. `bytes`: what one forward and backward pass must at least read and
// write; 0 where arithmetic dominates, then no GB/s are printed.
void CompareForwardBackward(const std::string& name, const std::vector<at::Tensor>& inputs, double bytes,
                            const BenchmarkedOperator& ours, const BenchmarkedOperator& composite);

// Uniform values in [-1, 1), float32.
at::Tensor BenchmarkValues(at::IntArrayRef shape);

// Uniform integers in [0, high), int64.
at::Tensor BenchmarkIndices(int64_t high, at::IntArrayRef shape);

}  // namespace titan

#endif  // TITAN_KERNELS_BENCHMARK_H_
