// The differentiable collectives of tensor, sequence and loss parallelism, over the ranks of one group of size T.
//
//   at::Tensor all = GatherRows(mine, tp);                                  // (N / T, D) -> (N, D)
//   at::Tensor loss = VocabularyCrossEntropy(hidden, my_rows_of_weight, labels, tp);  // no rank ever holds all logits

#ifndef TITAN_PARALLEL_TENSOR_PARALLEL_H_
#define TITAN_PARALLEL_TENSOR_PARALLEL_H_

#include <ATen/core/Tensor.h>

#include "titan/parallel/communicator.h"

namespace titan {

// (N / T, D) of each rank -> (N, D), rank by rank. The gradients of the ranks for the same row are added.
at::Tensor GatherRows(const at::Tensor& x, Communicator& group);

// (N, D) summands -> (N / T, D), this rank's rows of their sum.
at::Tensor ReduceScatterRows(const at::Tensor& x, Communicator& group);

// Rows of a table (V, D) by index, of which rank r holds the r-th V / T: tokens of any shape -> this rank's summand,
// zero where another rank has the row.
at::Tensor VocabularyEmbedding(const at::Tensor& tokens, const at::Tensor& table_rows, const Communicator& group);

// What kernels/linear_cross_entropy.h computes, from the r-th V / T rows of the weight on rank r: hidden (N, D), the
// same on all ranks; labels (N) -> scalar, the same on all ranks. Per chunk of rows, two numbers a row travel (the
// largest logit; the sum of exponentials and the label's logit). The gradient of `hidden` is this rank's summand.
at::Tensor VocabularyCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight_rows, const at::Tensor& labels,
                                  Communicator& group);

}  // namespace titan

#endif  // TITAN_PARALLEL_TENSOR_PARALLEL_H_
