// Rows of a table by index, with a gradient that does not depend on the number of threads.
//
//   at::Tensor x = Embedding(tokens, table);  // tokens (B, S) int64, table (V, D) -> (B, S, D)

#ifndef TITAN_KERNELS_EMBEDDING_H_
#define TITAN_KERNELS_EMBEDDING_H_

#include <ATen/core/Tensor.h>

namespace titan {

// indices: int64, any shape, each in [0, V); others throw on the CPU and are undefined elsewhere. Differentiable in
// `table`; the rows' gradients are summed in the order of the indices, in fp32 (fp64 for fp64).
at::Tensor Embedding(const at::Tensor& indices, const at::Tensor& table);

}  // namespace titan

#endif  // TITAN_KERNELS_EMBEDDING_H_
