// The linear layers of tensor and sequence parallelism in parts, so that what travels does so while something is
// computed (Wang et al. 2023, "Overlap Communication with Dependent Computation via Decomposition in Large Deep
// Learning Models"). Over the T ranks of one group; the parts are the rows (tokens) of one rank each.
//
//   std::vector<at::Tensor> y = OverlappedColumnLinears(x, {wq, wk, wv}, tp, weight_gradients);  // (N / T, D) -> (N,
//   out / T) at::Tensor z = OverlappedRowLinear(f(y), wo, tp, weight_gradients);                          // (N, in /
//   T) -> (N / T, D)
//
// Same values as GatherRows and Linear, or Linear and ReduceScatterRows, to rounding, and the same bytes sent: T - 1
// messages, one to each other rank, instead of one collective. In backward likewise: where forward gathers, backward
// scatters, and the reverse. Nothing is gathered twice: what forward has gathered is kept for the weights' gradients.

#ifndef TITAN_PARALLEL_OVERLAPPED_LINEAR_H_
#define TITAN_PARALLEL_OVERLAPPED_LINEAR_H_

#include <ATen/core/Tensor.h>

#include <vector>

#include "titan/model/linear.h"
#include "titan/parallel/communicator.h"

namespace titan {

// The rows of all ranks, rank by rank, times each weight^T. x (N / T, D), weights (out_i, D) -> (N, out_i). The product
// with a rank's rows is computed while the next rank's are on their way. `weight_gradients`: see titan/model/linear.h.
std::vector<at::Tensor> OverlappedColumnLinears(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                                                Communicator& group, WeightGradients* weight_gradients);

// This rank's rows of the sum over the ranks of x weight^T. x (N, in), weight (D, in) -> (N / T, D). The product for a
// rank travels while that for the next is computed.
at::Tensor OverlappedRowLinear(const at::Tensor& x, const at::Tensor& weight, Communicator& group,
                               WeightGradients* weight_gradients);

}  // namespace titan

#endif  // TITAN_PARALLEL_OVERLAPPED_LINEAR_H_
