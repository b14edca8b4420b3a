// How the parameters of a block lie in memory when they are shared out: the flat vector of a unit. The plan counts with
// it, the trainer (titan/parallel/parameters.h) stores by it, so that the two cannot disagree.
//
//   absl::StatusOr<UnitLayout> layout = LayOutUnit(spec.blocks[1], /*tp_size=*/2, /*num_ranks=*/4);
//   layout->shard_size;  // elements of the unit that one of the 4 ranks keeps

#ifndef TITAN_PLAN_UNIT_LAYOUT_H_
#define TITAN_PLAN_UNIT_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/plan/model_spec.h"

namespace titan {

// Parameters and shards begin at multiples of this many elements: 128 bytes in bf16, what vector loads and GEMMs like.
inline constexpr int64_t kUnitAlignment = 64;

struct UnitLayout {
  std::vector<std::vector<int64_t>> local_shapes;  // of each parameter: what one rank of tensor parallelism holds
  std::vector<int64_t> offsets;                    // of each parameter in the vector
  int64_t replicated_size = 0;  // elements, from the beginning, of parameters that tensor parallelism does not split
  int64_t shard_size = 0;       // elements of one rank's part; num_ranks times that is the whole vector
};

// The dimension that tensor parallelism cuts, where it does.
int64_t SplitDimension(TensorSplit split);

// The parameters that `block` owns. InvalidArgument if `tp_size` does not divide what it cuts.
absl::StatusOr<UnitLayout> LayOutUnit(const BlockSpec& block, int64_t tp_size, int64_t num_ranks);

}  // namespace titan

#endif  // TITAN_PLAN_UNIT_LAYOUT_H_
