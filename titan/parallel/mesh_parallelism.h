// BlockParallelism over a mesh: tensor, sequence and loss parallelism (Shoeybi et al. 2019, arXiv:1909.08053;
// Korthikanti et al. 2022, arXiv:2205.05198) over the tp axis, context parallelism over the cp axis.
//
//   const MeshParallelism parallelism(groups, experiment.parallelism());
//   BatchContext context = model.MakeContext(positions, {.parallelism = &parallelism});
//
// Context parallelism: each of the C ranks holds S / C tokens of every sequence. With "headtail" a sequence is cut into
// 2 C pieces, of which rank r holds the r-th from the beginning and the r-th from the end, so that under a causal mask
// all have the same work; else C pieces, of which rank r holds the r-th.
// * allgather: each rank gathers keys and values of all tokens, and attends with its own queries.
// * ulysses (Jacobs et al. 2023, arXiv:2309.14509): an all-to-all gives each rank all tokens of 1/C of the heads, and
//   another takes the outputs back.

#ifndef TITAN_PARALLEL_MESH_PARALLELISM_H_
#define TITAN_PARALLEL_MESH_PARALLELISM_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "titan/model/block_parallelism.h"
#include "titan/parallel/groups.h"

namespace titan {

enum class ContextParallelMethod { kAllGather, kUlysses };

class MeshParallelism : public BlockParallelism {
 public:
  struct Options {
    ContextParallelMethod method = ContextParallelMethod::kAllGather;
    bool head_tail = true;  // else the pieces of a sequence are in order
  };

  // `groups` must outlive it.
  MeshParallelism(const ParallelGroups& groups, const Options& options);

  at::Tensor LocalTokens(const at::Tensor& values) const override;
  void PrepareAttention(const at::Tensor& positions, bool several_documents, BatchContext& context) const override;
  at::Tensor GatherTokens(const at::Tensor& x, const BatchContext& context) const override;
  at::Tensor ReduceScatterTokens(const at::Tensor& summand, const BatchContext& context) const override;
  at::Tensor Embed(const at::Tensor& tokens, const at::Tensor& table, const BatchContext& context) const override;
  at::Tensor LinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& labels) const override;
  at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const BatchContext& context) const override;

 private:
  int64_t pieces_per_rank() const { return options_.head_tail ? 2 : 1; }
  int64_t num_pieces() const { return pieces_per_rank() * cp_.size(); }
  // Which piece of the sequences is the j-th of a rank.
  int64_t PieceOf(int64_t rank, int64_t j) const { return j == 0 ? rank : num_pieces() - 1 - rank; }
  // (B, C S, ...) in the order of the sequence <-> (C, B, S, ...) rank by rank.
  at::Tensor ToSequence(const at::Tensor& by_rank) const;
  at::Tensor ByRank(const at::Tensor& sequence) const;

  // (B, S, H, d) -> (B, C S, H, d); gradients are added over the ranks.
  at::Tensor GatherSequence(const at::Tensor& x) const;
  // (B, S, H, d) -> (B, C S, H / C, d), and back.
  at::Tensor HeadsToSequence(const at::Tensor& x) const;
  at::Tensor SequenceToHeads(const at::Tensor& x) const;

  friend class GatherSequenceFunction;
  friend class HeadsToSequenceFunction;
  friend class SequenceToHeadsFunction;
  at::Tensor GatherSequenceForward(const at::Tensor& x) const;
  at::Tensor GatherSequenceBackward(const at::Tensor& gradient) const;
  at::Tensor ExchangeHeadsForSequence(const at::Tensor& x) const;
  at::Tensor ExchangeSequenceForHeads(const at::Tensor& x) const;

  Communicator& tp_;
  Communicator& cp_;
  const Options options_;
};

}  // namespace titan

#endif  // TITAN_PARALLEL_MESH_PARALLELISM_H_
