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

// Where documents start in `rows` rows of positions in host memory, one after the other, and in the end rows *
// sequence.
std::vector<int32_t> DocumentStarts(const int64_t* positions, int64_t rows, int64_t sequence);

// What the blocks compute in, and with whom.
struct ContextOptions {
  at::ScalarType compute_dtype = at::kFloat;
  // DocumentStarts of the batch, said by who has it in host memory, because to look would be to wait for the device.
  // Empty: not known, any row may hold several documents.
  std::vector<int32_t> document_starts = {};
  const BlockParallelism* parallelism = &BlockParallelism::SingleRank();

  bool HasSeveralDocuments(int64_t rows) const {
    return document_starts.empty() || static_cast<int64_t>(document_starts.size()) > rows + 1;
  }
};

// `positions` (B, S_global) int64, of whole sequences; `frequencies` as RopeFrequencies gives them. Angles are computed
// in float64. The context is that of this rank's part of the sequences.
BatchContext MakeDocumentContext(const at::Tensor& positions, const std::vector<double>& frequencies,
                                 const ContextOptions& options);

}  // namespace titan

#endif  // TITAN_MODEL_CONTEXT_H_
