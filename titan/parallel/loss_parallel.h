// The output projection and its cross-entropy with the vocabulary shared out over the ranks of a group of size T.
//
//   at::Tensor loss = VocabularyCrossEntropy(hidden, my_rows_of_weight, labels, tp);  // no rank ever holds all logits

#ifndef TITAN_PARALLEL_LOSS_PARALLEL_H_
#define TITAN_PARALLEL_LOSS_PARALLEL_H_

#include <ATen/core/Tensor.h>

#include "titan/parallel/communicator.h"

namespace titan {

// What kernels/linear_cross_entropy.h computes, from the r-th V / T rows of the weight on rank r: hidden (N, D), the
// same on all ranks; labels (N) -> scalar, the same on all ranks. The gradient of `hidden` is this rank's summand.
// Per chunk of rows, three numbers a row are reduced over the ranks (the largest logit; the sum of exponentials and the
// label's logit). With `gathers_logits`, all ranks gather the logits (rows, V) instead, and each computes all losses.
at::Tensor VocabularyCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight_rows, const at::Tensor& labels,
                                  Communicator& group, bool gathers_logits = false);

}  // namespace titan

#endif  // TITAN_PARALLEL_LOSS_PARALLEL_H_
