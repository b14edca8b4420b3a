#include <ATen/TensorOperators.h>
#include <ATen/ops/rms_norm.h>

#include <string>

#include "kernels/benchmark.h"
#include "kernels/rms_norm.h"

int main() {
  using titan::BenchmarkValues;
  const auto reference = [](const at::Tensor& x, const at::Tensor& w) {
    return at::rms_norm(x, {x.size(-1)}, w, 1e-5);
  };
  for (const int64_t dim : {256, 2048}) {
    const std::vector<at::Tensor> inputs = {BenchmarkValues({8, 256, dim}), BenchmarkValues({8, 256, dim}),
                                            BenchmarkValues({dim})};
    const double size = 8.0 * 256 * static_cast<double>(dim) * sizeof(float);
    titan::CompareForwardBackward(
        "rms_norm (8, 256, " + std::to_string(dim) + ")", {inputs[0], inputs[2]}, 5 * size,
        [](const auto& in) { return titan::RmsNorm(in[0], in[1], 1e-5); },
        [&](const auto& in) { return reference(in[0], in[1]); });
    titan::CompareForwardBackward(
        "add_rms_norm (8, 256, " + std::to_string(dim) + ")", inputs, 8 * size,
        [](const auto& in) {
          const auto [y, sum] = titan::AddRmsNorm(in[0], in[1], in[2], 1e-5);
          return y + sum;
        },
        [&](const auto& in) {
          const at::Tensor sum = in[0] + in[1];
          return reference(sum, in[2]) + sum;
        });
  }
}
