// The CUDA kernel behind the gradient of kernels/embedding.h.

#ifndef TITAN_KERNELS_EMBEDDING_CUDA_H_
#define TITAN_KERNELS_EMBEDDING_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"

namespace titan::cuda {

struct EmbeddingGradientArguments {
  Element element;         // of dout
  const int64_t* indices;  // (count), ascending: rows of `sum`, not checked
  const int64_t* order;    // (count): the row of dout that belongs to each of them; ascending among equal indices
  int64_t count;
  const void* dout;  // (count, dim)
  int64_t dim;
  void* sum;  // (rows, dim), fp32 (fp64 for fp64)
};

// Adds to each row of `sum` the sum of its rows of dout, which are added in their order; one addition per element, so
// the same bits every time.
void AddEmbeddingGradient(const EmbeddingGradientArguments& arguments, Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_EMBEDDING_CUDA_H_
