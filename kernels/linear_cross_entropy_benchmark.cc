#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linear.h>

#include <string>

#include "kernels/benchmark.h"
#include "kernels/linear_cross_entropy.h"

int main() {
  for (const auto& [dim, vocab] : {std::pair<int64_t, int64_t>{256, 2048}, {512, 32000}}) {
    const at::Tensor labels = titan::BenchmarkIndices(vocab, {2048});
    const std::vector<at::Tensor> inputs = {titan::BenchmarkValues({2048, dim}), titan::BenchmarkValues({vocab, dim})};
    titan::CompareForwardBackward(
        "linear_cross_entropy (2048, " + std::to_string(dim) + ") x " + std::to_string(vocab), inputs, 0,
        [&](const auto& in) { return titan::LinearCrossEntropy(in[0], in[1], labels); },
        [&](const auto& in) { return at::cross_entropy_loss(at::linear(in[0], in[1]), labels, {}, /*reduction=*/2); });
  }
}
