#include <ATen/TensorOperators.h>
#include <ATen/ops/silu.h>

#include <string>

#include "kernels/benchmark.h"
#include "kernels/swiglu.h"

int main() {
  for (const int64_t dim : {768, 8192}) {
    const std::vector<at::Tensor> inputs = {titan::BenchmarkValues({8, 256, dim}),
                                            titan::BenchmarkValues({8, 256, dim})};
    titan::CompareForwardBackward(
        "swiglu (8, 256, " + std::to_string(dim) + ")", inputs,
        8.0 * static_cast<double>(inputs[0].numel()) * sizeof(float),
        [](const auto& in) { return titan::SwiGlu(in[0], in[1]); },
        [](const auto& in) { return at::silu(in[0]) * in[1]; });
  }
}
