// Lends whole matrices to those who cannot compute with pieces of them. Each matrix of a unit goes to one rank of those
// that share it, is replaced there by a function of it, and what comes out goes back to where the pieces were.
//
//   const WholeMatrices matrices(groups, {{.shape = {768, 256}, ...}});
//   std::vector<at::Tensor> pieces = matrices.Map(pieces_here, [](const at::Tensor& whole) { return f(whole); });
//
// The ranks of dp_shard x cp and of tp take about equally much work: matrices are dealt out by what cubic work on them
// costs, the dearest first, each to the rank that has least. A piece travels twice, there and back: of n ranks that
// share a unit and T of tensor parallelism, one sends (n-1)/n of its pieces' bytes and gets as much, and the same over
// tp, for the parts that it has put together, with T. Replicas all do the same.

#ifndef TITAN_PARALLEL_WHOLE_MATRICES_H_
#define TITAN_PARALLEL_WHOLE_MATRICES_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "titan/parallel/groups.h"
#include "titan/plan/model_spec.h"

namespace titan {

class WholeMatrices {
 public:
  struct Matrix {
    std::vector<int64_t> shape;  // (rows, columns)
    TensorSplit split = TensorSplit::kReplicated;
    std::vector<int64_t> local_shape;  // of one rank's part of it by tensor parallelism
    int64_t start = 0;                 // of that part in the unit's flat vector
    int64_t shard_size = 0;            // of the unit: the r-th rank that shares it has elements [r, r + 1) * shard_size
  };
  using Function = std::function<at::Tensor(const at::Tensor& whole)>;

  // Every rank of `groups`' fsdp and tp has the same matrices. `groups` must outlive this.
  WholeMatrices(const ParallelGroups& groups, std::vector<Matrix> matrices);

  // `pieces`: of each matrix what is here of it, flat (possibly nothing), all of one dtype, on the device that the
  // communicators serve. Returns the same pieces of function(matrix), which has the matrix's shape and dtype, and must
  // not write to what it is given. All ranks of fsdp and tp call it.
  std::vector<at::Tensor> Map(const std::vector<at::Tensor>& pieces, const Function& function) const;

 private:
  // Ranks in the groups. Of a matrix that tensor parallelism does not split, all of its ranks are owners.
  struct Owner {
    int64_t fsdp = 0;
    int64_t tp = 0;
  };
  using Lists = std::vector<std::vector<at::Tensor>>;  // by rank of a group

  void DealOut();
  bool IsSplit(size_t matrix) const;
  // Elements of the local part that the given rank of fsdp has.
  std::pair<int64_t, int64_t> Range(size_t matrix, int64_t rank) const;
  // Owned by this rank of fsdp; of these, by this rank of tp.
  std::vector<size_t> OwnedByShard() const;
  bool IsOwnedHere(size_t matrix) const { return owners_[matrix].tp == groups_.tp().rank(); }

  std::vector<at::Tensor> CollectParts(const std::vector<at::Tensor>& pieces) const;
  std::vector<at::Tensor> SpreadParts(const std::vector<at::Tensor>& parts, const at::TensorOptions& options) const;
  std::vector<at::Tensor> MapParts(const std::vector<at::Tensor>& parts, const Function& function,
                                   const at::TensorOptions& options) const;

  const ParallelGroups& groups_;
  const std::vector<Matrix> matrices_;
  std::vector<Owner> owners_;  // of each matrix
};

}  // namespace titan

#endif  // TITAN_PARALLEL_WHOLE_MATRICES_H_
