#include <ATen/ops/embedding.h>

#include <string>

#include "kernels/benchmark.h"
#include "kernels/embedding.h"

int main() {
  for (const auto& [vocab, dim] : {std::pair<int64_t, int64_t>{2048, 256}, {128256, 512}}) {
    const at::Tensor indices = titan::BenchmarkIndices(vocab, {8, 256});
    const std::vector<at::Tensor> inputs = {titan::BenchmarkValues({vocab, dim})};
    titan::CompareForwardBackward(
        "embedding (8, 256) of (" + std::to_string(vocab) + ", " + std::to_string(dim) + ")", inputs,
        sizeof(float) * static_cast<double>(dim) * (3.0 * 8 * 256 + static_cast<double>(vocab)),
        [&](const auto& in) { return titan::Embedding(indices, in[0]); },
        [&](const auto& in) { return at::embedding(in[0], indices); });
  }
}
