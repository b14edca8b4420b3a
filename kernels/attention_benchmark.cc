#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <string>
#include <tuple>

#include "kernels/attention.h"
#include "kernels/attention_piece.h"
#include "kernels/benchmark.h"

int main() {
  using titan::BenchmarkValues;
  for (const auto& [heads, kv_heads, dim] :
       {std::tuple<int64_t, int64_t, int64_t>{16, 16, 16}, {8, 2, 64}, {8, 8, 128}}) {
    const std::vector<at::Tensor> inputs = {BenchmarkValues({8, 256, heads, dim}),
                                            BenchmarkValues({8, 256, kv_heads, dim}),
                                            BenchmarkValues({8, 256, kv_heads, dim})};
    const std::string shape =
        "(8, 256, " + std::to_string(heads) + ":" + std::to_string(kv_heads) + ", " + std::to_string(dim) + ")";
    const at::Tensor mask = at::ones({1, 1, 256, 256}, at::kBool).tril().expand({8, 1, 256, 256});
    const at::Tensor first_key = at::zeros({8, 256}, at::kLong);
    const auto ours = [&](const auto& in) { return titan::Attention(in[0], in[1], in[2], {.first_key = first_key}); };
    titan::CompareForwardBackward("attention, library causal " + shape, inputs, 0, ours, [](const auto& in) {
      return titan::LibraryAttention(in[0], in[1], in[2], at::Tensor());
    });
    titan::CompareForwardBackward("attention, library masked " + shape, inputs, 0, ours,
                                  [&](const auto& in) { return titan::LibraryAttention(in[0], in[1], in[2], mask); });
    // Half of the queries, as a rank of two has them with head-tail balance: the first and the last quarter.
    const at::Tensor place = at::cat({at::arange(64, at::kLong), at::arange(192, 256, at::kLong)});
    const titan::AttentionPiece piece{.queries = 128,
                                      .keys = 256,
                                      .first_key = at::zeros({8, 128}, at::kLong),
                                      .end_key = (place + 1).expand({8, 128})};
    const at::Tensor seen = mask.index_select(2, place);
    const std::vector<at::Tensor> half = {inputs[0].narrow(1, 0, 128).contiguous(), inputs[1], inputs[2]};
    titan::CompareForwardBackward(
        "attention of half, library masked " + shape, half, 0,
        [&](const auto& in) { return titan::PieceAttention(in[0], in[1], in[2], piece); },
        [&](const auto& in) { return titan::LibraryAttention(in[0], in[1], in[2], seen); });
  }
}
