// Attention to the keys of all ranks of a ring, of which each rank holds a part (Liu et al. 2023, arXiv:2310.01889):
// keys and values go from rank to rank, and while a rank computes with those that are there, the next ones arrive. A
// rank holds two parts at a time, whatever the ring's size.
//
//   // pieces[s]: what this rank's queries see of the keys of the rank that is s before it
//   const at::Tensor o = RingAttention(q, k, v, pieces, group);  // (B, S, H, d)

#ifndef TITAN_PARALLEL_RING_ATTENTION_H_
#define TITAN_PARALLEL_RING_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/attention_piece.h"
#include "titan/parallel/communicator.h"

namespace titan {

// q (B, S, H, d); k, v (B, S, H_kv, d) -> (B, S, H, d) of q's dtype, summed in fp32. Differentiable. One piece for each
// rank; every query sees some of pieces[0], the rank's own keys. `group` must outlive the graph.
//
// With n ranks, each sends its keys and values n - 1 times in forward and as often in backward; the sums of their
// gradients, in fp32, follow one rank behind them, n - 1 times, to the rank that they belong to.
at::Tensor RingAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const std::vector<AttentionPiece>& pieces, Communicator& group);

}  // namespace titan

#endif  // TITAN_PARALLEL_RING_ATTENTION_H_
