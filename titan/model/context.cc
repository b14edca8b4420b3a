#include "titan/model/context.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <tuple>

namespace titan {

at::Tensor FirstKeys(const at::Tensor& positions) {
  const int64_t sequence = positions.size(1);
  if (sequence < 2) return at::zeros_like(positions);
  const at::Tensor expected = positions.narrow(1, 0, sequence - 1).add(1);
  const at::Tensor restarts = positions.narrow(1, 1, sequence - 1).ne(expected);  // (B, S-1)
  const at::Tensor place = at::arange(1, sequence, positions.options());          // (S-1)
  const at::Tensor starts = at::constant_pad_nd(restarts.mul(place), {1, 0});     // (B, S): its place, or 0
  return std::get<0>(starts.cummax(1));
}

std::vector<int32_t> DocumentStarts(const int64_t* positions, int64_t rows, int64_t sequence) {
  std::vector<int32_t> starts;
  for (int64_t i = 0; i < rows * sequence; ++i) {
    if (i % sequence == 0 || positions[i] != positions[i - 1] + 1) starts.push_back(static_cast<int32_t>(i));
  }
  starts.push_back(static_cast<int32_t>(rows * sequence));
  return starts;
}

BatchContext MakeDocumentContext(const at::Tensor& positions, const std::vector<double>& frequencies,
                                 const ContextOptions& options) {
  TORCH_CHECK(positions.dim() == 2 && positions.scalar_type() == at::kLong,
              "positions must be int64 of shape (B, S), got ", positions.scalar_type(), " ", positions.sizes());
  c10::AutoGradMode no_grad(false);
  BatchContext context;
  context.parallelism = options.parallelism;
  context.positions = options.parallelism->LocalTokens(positions);
  const auto table_dtype = options.compute_dtype == at::kDouble ? at::kDouble : at::kFloat;
  // From pinned memory a copy to a GPU does not make the host wait for what runs there.
  const at::Tensor f = at::tensor(frequencies, at::TensorOptions(at::kDouble).pinned_memory(!positions.is_cpu()))
                           .to(positions.device(), /*non_blocking=*/true);       // (d/2)
  const at::Tensor angles = context.positions.to(at::kDouble).unsqueeze(2) * f;  // (B, S, d/2)
  context.rope_cos = angles.cos().to(table_dtype);
  context.rope_sin = angles.sin().to(table_dtype);
  options.parallelism->PrepareAttention(positions, options, context);
  return context;
}

}  // namespace titan
