// What the blocks of one forward pass share, made from the positions of the tokens.

#ifndef TITAN_MODEL_CONTEXT_H_
#define TITAN_MODEL_CONTEXT_H_

#include <c10/core/ScalarType.h>

#include <vector>

#include "titan/model/block.h"

namespace titan {

// (B, S) int64: the first key that each query sees, the first token of its document in the row. A document starts where
// a position is not its predecessor's plus one.
at::Tensor FirstKeys(const at::Tensor& positions);

// The same as (B, 1, S, S) bool: true for the keys first_key .. query.
at::Tensor DocumentCausalMask(const at::Tensor& first_key);

// What the blocks compute in, and with whom.
struct ContextOptions {
  at::ScalarType compute_dtype = at::kFloat;
  // Some row holds more than one document, or a document's continuation: a mask is needed. Said by who knows the batch,
  // because to look would be to wait for the device.
  bool several_documents = true;
  const BlockParallelism* parallelism = &BlockParallelism::SingleRank();
};

// `positions` (B, S_global) int64, of whole sequences; `frequencies` as RopeFrequencies gives them. Angles are computed
// in float64. The context is that of this rank's part of the sequences.
BatchContext MakeDocumentContext(const at::Tensor& positions, const std::vector<double>& frequencies,
                                 const ContextOptions& options);

}  // namespace titan

#endif  // TITAN_MODEL_CONTEXT_H_
