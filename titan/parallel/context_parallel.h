// Context parallelism: each of the C ranks of a group holds S / C tokens of every sequence.
//
//   const ContextParallel context_parallel(groups.cp(), {.method = ContextParallelMethod::kAllGather});
//   const at::Tensor mine = context_parallel.LocalTokens(tokens);  // (B, S_global) -> (B, S)
//   const at::Tensor o = context_parallel.Attention(q, k, v, context);
//
// With "headtail" a sequence is cut into 2 C pieces, of which rank r holds the r-th from the beginning and the r-th
// from the end, so that under a causal mask all have the same work; else C pieces, of which rank r holds the r-th.
// * allgather: each rank gathers keys and values of all tokens, and attends with its own queries.
// * alltoall: keys and values go around the ring of the ranks (ring_attention.h); no rank holds all of them.
// * ulysses (Jacobs et al. 2023, arXiv:2309.14509): an all-to-all gives each rank all tokens of 1/C of the heads, and
//   another takes the outputs back.

#ifndef TITAN_PARALLEL_CONTEXT_PARALLEL_H_
#define TITAN_PARALLEL_CONTEXT_PARALLEL_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/attention_piece.h"
#include "titan/parallel/communicator.h"

namespace titan {

struct BatchContext;
struct ContextOptions;

enum class ContextParallelMethod { kAllGather, kAllToAll, kUlysses };

struct ContextParallelOptions {
  ContextParallelMethod method = ContextParallelMethod::kAllGather;
  bool head_tail = true;  // else the pieces of a sequence are in order
};

// The three functions are those of BlockParallelism.
class ContextParallel {
 public:
  // `group`, of more than one rank, must outlive it; and it, the graphs that Attention records.
  ContextParallel(Communicator& group, const ContextParallelOptions& options) : group_(group), options_(options) {}

  at::Tensor LocalTokens(const at::Tensor& values) const;
  void PrepareAttention(const at::Tensor& positions, const ContextOptions& options, BatchContext& context) const;
  at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const BatchContext& context) const;

 private:
  int64_t pieces_per_rank() const { return options_.head_tail ? 2 : 1; }
  int64_t num_pieces() const { return pieces_per_rank() * group_.size(); }
  // Which piece of the sequences is the j-th of a rank.
  int64_t PieceOf(int64_t rank, int64_t j) const { return j == 0 ? rank : num_pieces() - 1 - rank; }
  // What this rank's queries see of the keys of `rank`; first_key (B, S_global) may be undefined, if every row is one
  // document from its beginning.
  AttentionPiece PieceOfRank(int64_t rank, int64_t sequence, const at::Tensor& first_key) const;
  // What they see of all keys, in the order of the sequence.
  AttentionPiece PieceOfAll(const at::Tensor& first_key) const;
  // The same for the library, as masks (B, 1, queries, keys) for each piece of the queries and the first so many keys.
  std::vector<at::Tensor> MasksOfAll(const at::Tensor& first_key) const;
  // (B, C S, ...) in the order of the sequence <-> (C, B, S, ...) rank by rank.
  at::Tensor ToSequence(const at::Tensor& by_rank) const;
  at::Tensor ByRank(const at::Tensor& sequence) const;

  at::Tensor AttentionToAll(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const BatchContext& context) const;
  // (B, S, H, d) -> (B, C S, H, d); gradients are added over the ranks.
  at::Tensor GatherSequence(const at::Tensor& x) const;
  // (B, S, H, d) -> (B, C S, H / C, d), and back. Each is the other's backward.
  at::Tensor HeadsToSequence(const at::Tensor& x) const;
  at::Tensor SequenceToHeads(const at::Tensor& x) const;
  at::Tensor ExchangeHeadsForSequence(const at::Tensor& x) const;
  at::Tensor ExchangeSequenceForHeads(const at::Tensor& x) const;

  Communicator& group_;
  const ContextParallelOptions options_;
};

}  // namespace titan

#endif  // TITAN_PARALLEL_CONTEXT_PARALLEL_H_
