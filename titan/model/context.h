// What the blocks of one forward pass share, made from the positions of the tokens.

#ifndef TITAN_MODEL_CONTEXT_H_
#define TITAN_MODEL_CONTEXT_H_

#include <vector>

#include "titan/model/block.h"

namespace titan {

// (B, S) int64: the first key that each query sees, the first token of its document in the row. A document starts where
// a position is not its predecessor's plus one.
at::Tensor FirstKeys(const at::Tensor& positions);

// The same as (B, 1, S, S) bool: true for the keys first_key .. query.
at::Tensor DocumentCausalMask(const at::Tensor& first_key);

// positions (B, S) int64; `frequencies` as RopeFrequencies gives them. Angles are computed in float64. Off the CPU it
// reads one value back from the device: whether a mask is needed.
BatchContext MakeDocumentContext(const at::Tensor& positions, const std::vector<double>& frequencies,
                                 at::ScalarType compute_dtype);

}  // namespace titan

#endif  // TITAN_MODEL_CONTEXT_H_
