// Rows of a table by index, with a gradient that does not depend on the number of threads.
//
//   at::Tensor x = Embedding(tokens, table);  // tokens (B, S) int64, table (V, D) -> (B, S, D)
//   AddEmbeddingGradient(tokens, dx, sum);     // what x.backward(dx) would give the table, added to `sum`

#ifndef TITAN_KERNELS_EMBEDDING_H_
#define TITAN_KERNELS_EMBEDDING_H_

#include <ATen/core/Tensor.h>

#include <functional>

namespace titan {

// Called by backward with the table and the gradient of what was taken from it, (..., D).
using TakeEmbeddingGradient = std::function<void(const at::Tensor& table, const at::Tensor& dout)>;

// indices: int64, any shape, each in [0, V); others throw on the CPU and are undefined elsewhere. Differentiable in
// `table`; the rows' gradients are summed in the order of the indices, in fp32 (fp64 for fp64). With `take_gradient`
// the table's gradient, which is as large as the table and mostly zeros, is left to that.
at::Tensor Embedding(const at::Tensor& indices, const at::Tensor& table, TakeEmbeddingGradient take_gradient = nullptr);

// Adds the gradient of the table to `sum` (V, D), of any floating dtype, the same bits every time. Only the rows that
// occur are touched where `sum` has the dtype that sums are computed in. dout: (..., D).
void AddEmbeddingGradient(const at::Tensor& indices, const at::Tensor& dout, const at::Tensor& sum);

}  // namespace titan

#endif  // TITAN_KERNELS_EMBEDDING_H_
