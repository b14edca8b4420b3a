#include "titan/plan/unit_layout.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int64_t Product(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (const int64_t extent : shape) product *= extent;
  return product;
}

absl::StatusOr<std::vector<int64_t>> LocalShape(const ParameterSpec& parameter, int64_t tp_size) {
  std::vector<int64_t> shape = parameter.shape;
  if (parameter.split == TensorSplit::kReplicated) return shape;
  const int64_t dimension = SplitDimension(parameter.split);
  if (shape[dimension] % tp_size != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("parallelism.tensor_parallel_degree: ", tp_size, " does not divide the ", shape[dimension],
                     dimension == 0 ? " rows of " : " columns of ", parameter.name, "; choose a divisor"));
  }
  shape[dimension] /= tp_size;
  return shape;
}

}  // namespace

int64_t SplitDimension(TensorSplit split) { return split == TensorSplit::kRow ? 1 : 0; }

absl::StatusOr<UnitLayout> LayOutUnit(const BlockSpec& block, int64_t tp_size, int64_t num_ranks) {
  UnitLayout layout;
  layout.offsets.resize(block.parameters.size());
  for (const ParameterSpec& parameter : block.parameters) {
    TITAN_ASSIGN_OR_RETURN(layout.local_shapes.emplace_back(), LocalShape(parameter, tp_size));
  }
  int64_t size = 0;
  for (const bool replicated : {true, false}) {
    for (size_t i = 0; i < layout.offsets.size(); ++i) {
      if ((block.parameters[i].split == TensorSplit::kReplicated) != replicated) continue;
      layout.offsets[i] = size;
      size = RoundUp(size + Product(layout.local_shapes[i]), kUnitAlignment);
    }
    if (replicated) layout.replicated_size = size;
  }
  layout.shard_size = RoundUp((size + num_ranks - 1) / num_ranks, kUnitAlignment);
  return layout;
}

}  // namespace titan
