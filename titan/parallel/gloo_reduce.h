// The sum or the maximum of one block per rank, element by element, in the order of the ranks: the result depends on
// the inputs alone. bfloat16 adds in float32 and rounds once.

#ifndef TITAN_PARALLEL_GLOO_REDUCE_H_
#define TITAN_PARALLEL_GLOO_REDUCE_H_

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <vector>

#include "titan/parallel/communicator.h"

namespace titan {

// `output` may be one of the `blocks`. Each holds `count` elements of float32, bfloat16, float64 or int64.
void ReduceBlocks(c10::ScalarType type, ReduceOp op, const std::vector<const void*>& blocks, void* output,
                  int64_t count);

}  // namespace titan

#endif  // TITAN_PARALLEL_GLOO_REDUCE_H_
