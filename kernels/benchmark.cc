#include "kernels/benchmark.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randint.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace titan {
namespace {

double Milliseconds(const std::vector<at::Tensor>& inputs, const BenchmarkedOperator& op) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(input.is_floating_point() ? input.detach().requires_grad_(true) : input);
  }
  const auto start = std::chrono::steady_clock::now();
  const at::Tensor y = op(leaves);
  y.backward(at::ones_like(y));
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

void CompareForwardBackward(const std::string& name, const std::vector<at::Tensor>& inputs, double bytes,
                            const BenchmarkedOperator& ours, const BenchmarkedOperator& composite) {
  constexpr int kWarmup = 3;
  constexpr int kRuns = 25;
  std::vector<double> ours_ms, composite_ms;
  for (int run = 0; run < kWarmup + kRuns; ++run) {
    const double a = Milliseconds(inputs, ours), b = Milliseconds(inputs, composite);
    if (run < kWarmup) continue;
    ours_ms.push_back(a);
    composite_ms.push_back(b);
  }
  const double a = Median(ours_ms), b = Median(composite_ms);
  std::printf("%-48s ours %8.3f ms  composite %8.3f ms  ratio %5.2f", name.c_str(), a, b, b / a);
  if (bytes > 0) std::printf("  %6.1f GB/s", bytes / a * 1e-6);
  std::printf("\n");
}

at::Tensor BenchmarkValues(at::IntArrayRef shape) {
  return at::empty(shape, at::TensorOptions(at::kFloat)).uniform_(-1, 1, at::detail::createCPUGenerator(1));
}

at::Tensor BenchmarkIndices(int64_t high, at::IntArrayRef shape) {
  return at::randint(high, shape, at::detail::createCPUGenerator(1), at::TensorOptions(at::kLong));
}

}  // namespace titan
