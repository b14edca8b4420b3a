// The differentiable collectives of tensor and sequence parallelism, over the ranks of one group of size T.
//
//   at::Tensor all = GatherRows(mine, tp);                        // (N / T, D) -> (N, D)
//   at::Tensor sum = ReduceScatterRows(f(all, my_weights), tp);   // (N, D) -> (N / T, D)

#ifndef TITAN_PARALLEL_TENSOR_PARALLEL_H_
#define TITAN_PARALLEL_TENSOR_PARALLEL_H_

#include <ATen/core/Tensor.h>

#include "titan/parallel/communicator.h"

namespace titan {

// (N / T, D) of each rank -> (N, D), rank by rank. The gradients of the ranks for the same row are added.
at::Tensor GatherRows(const at::Tensor& x, Communicator& group);

// (N, D) summands -> (N / T, D), this rank's rows of their sum.
at::Tensor ReduceScatterRows(const at::Tensor& x, Communicator& group);

// Without sequence parallelism, each rank has all rows (N, D). The sum of the ranks' summands, on every rank; its
// gradient, which every rank has whole, is handed on as it is.
at::Tensor AllReduceSum(const at::Tensor& x, Communicator& group);
// x as it is; of its gradient each rank has a summand, and gets the sum.
at::Tensor AllReduceGradient(const at::Tensor& x, Communicator& group);

// Rows of a table (V, D) by index, of which rank r holds the r-th V / T: tokens of any shape -> this rank's summand,
// zero where another rank has the row.
at::Tensor VocabularyEmbedding(const at::Tensor& tokens, const at::Tensor& table_rows, const Communicator& group);

}  // namespace titan

#endif  // TITAN_PARALLEL_TENSOR_PARALLEL_H_
