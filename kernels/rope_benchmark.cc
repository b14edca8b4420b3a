#include <ATen/TensorOperators.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/view_as_complex.h>
#include <ATen/ops/view_as_real.h>

#include <string>

#include "kernels/benchmark.h"
#include "kernels/rope.h"

// The composite is torchtitan's: neighbours as complex numbers, which is another order of the same arithmetic.
int main() {
  for (const auto& [heads, dim] : {std::pair<int64_t, int64_t>{16, 16}, {16, 128}}) {
    const at::Tensor angles = titan::BenchmarkValues({8, 256, dim / 2});
    const at::Tensor cos = angles.cos(), sin = angles.sin(), turn = at::complex(cos, sin).unsqueeze(2);
    const std::vector<at::Tensor> inputs = {titan::BenchmarkValues({8, 256, heads, dim})};
    titan::CompareForwardBackward(
        "rope (8, 256, 16, " + std::to_string(dim) + ")", inputs,
        4.0 * static_cast<double>(inputs[0].numel()) * sizeof(float),
        [&](const auto& in) { return titan::Rope(in[0], cos, sin); },
        [&](const auto& in) {
          const at::Tensor pairs = at::view_as_complex(in[0].reshape({8, 256, in[0].size(2), -1, 2}));
          return at::view_as_real(pairs * turn).flatten(3);
        });
  }
}
