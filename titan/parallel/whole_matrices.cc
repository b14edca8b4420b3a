#include "titan/parallel/whole_matrices.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/log/check.h"
#include "titan/plan/unit_layout.h"

namespace titan {
namespace {

// Of products with the smaller Gram matrix.
double Cost(const std::vector<int64_t>& shape) {
  const double least = static_cast<double>(std::min(shape[0], shape[1]));
  const double most = static_cast<double>(std::max(shape[0], shape[1]));
  return least * least * (2 * most + least);
}

at::Tensor Flat(const std::vector<at::Tensor>& tensors, const at::TensorOptions& options) {
  return tensors.empty() ? at::empty({0}, options) : at::cat(tensors);
}

// Sends the tensors of list r, which are flat, to rank r; gets from rank r tensors of the sizes of its list.
std::vector<std::vector<at::Tensor>> Exchange(Communicator& group, const std::vector<std::vector<at::Tensor>>& sent,
                                              const std::vector<std::vector<int64_t>>& sizes,
                                              const at::TensorOptions& options) {
  if (group.size() == 1) return sent;
  std::vector<at::Tensor> all;
  std::vector<int64_t> input_rows, output_rows;
  for (int64_t rank = 0; rank < group.size(); ++rank) {
    int64_t rows = 0;
    for (const at::Tensor& tensor : sent[rank]) rows += tensor.numel();
    input_rows.push_back(rows);
    output_rows.push_back(std::accumulate(sizes[rank].begin(), sizes[rank].end(), int64_t{0}));
    all.insert(all.end(), sent[rank].begin(), sent[rank].end());
  }
  const at::Tensor input = Flat(all, options);
  const at::Tensor output = at::empty({std::accumulate(output_rows.begin(), output_rows.end(), int64_t{0})}, options);
  group.AllToAll(output, output_rows, input, input_rows).Wait();
  std::vector<std::vector<at::Tensor>> received(group.size());
  int64_t offset = 0;
  for (int64_t rank = 0; rank < group.size(); ++rank) {
    for (const int64_t size : sizes[rank]) {
      received[rank].push_back(output.narrow(0, offset, size));
      offset += size;
    }
  }
  return received;
}

}  // namespace

WholeMatrices::WholeMatrices(const ParallelGroups& groups, std::vector<Matrix> matrices)
    : groups_(groups), matrices_(std::move(matrices)), owners_(matrices_.size()) {
  for (const Matrix& matrix : matrices_) CHECK_EQ(matrix.shape.size(), 2u) << "not a matrix";
  DealOut();
}

bool WholeMatrices::IsSplit(size_t matrix) const {
  return groups_.tp().size() > 1 && matrices_[matrix].split != TensorSplit::kReplicated;
}

void WholeMatrices::DealOut() {
  const int64_t num_fsdp = groups_.fsdp().size(), num_tp = groups_.tp().size();
  std::vector<size_t> order(matrices_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return Cost(matrices_[a].shape) > Cost(matrices_[b].shape); });
  std::vector<double> work(num_fsdp * num_tp, 0);  // (fsdp, tp)
  for (const size_t matrix : order) {
    const int64_t least = std::min_element(work.begin(), work.end()) - work.begin();
    owners_[matrix] = {.fsdp = least / num_tp, .tp = least % num_tp};
    for (int64_t tp = 0; tp < num_tp; ++tp) {
      if (!IsSplit(matrix) || tp == owners_[matrix].tp)
        work[least / num_tp * num_tp + tp] += Cost(matrices_[matrix].shape);
    }
  }
}

std::pair<int64_t, int64_t> WholeMatrices::Range(size_t matrix, int64_t rank) const {
  const auto& [shape, split, local_shape, start, shard_size] = matrices_[matrix];
  const int64_t numel = c10::multiply_integers(local_shape);
  return {std::clamp<int64_t>(rank * shard_size - start, 0, numel),
          std::clamp<int64_t>((rank + 1) * shard_size - start, 0, numel)};
}

std::vector<size_t> WholeMatrices::OwnedByShard() const {
  std::vector<size_t> owned;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    if (owners_[i].fsdp == groups_.fsdp().rank()) owned.push_back(i);
  }
  return owned;
}

// Of each matrix that this rank of fsdp owns, the flat part that tensor parallelism gives it.
std::vector<at::Tensor> WholeMatrices::CollectParts(const std::vector<at::Tensor>& pieces) const {
  const int64_t num_ranks = groups_.fsdp().size();
  const std::vector<size_t> owned = OwnedByShard();
  Lists sent(num_ranks);
  std::vector<std::vector<int64_t>> sizes(num_ranks);
  for (size_t i = 0; i < matrices_.size(); ++i) sent[owners_[i].fsdp].push_back(pieces[i]);
  for (int64_t rank = 0; rank < num_ranks; ++rank) {
    for (const size_t i : owned) sizes[rank].push_back(Range(i, rank).second - Range(i, rank).first);
  }
  const Lists received = Exchange(groups_.fsdp(), sent, sizes, pieces.front().options());
  std::vector<at::Tensor> parts;
  for (size_t k = 0; k < owned.size(); ++k) {
    std::vector<at::Tensor> runs;  // in the order of the ranks, which is that of the elements
    for (int64_t rank = 0; rank < num_ranks; ++rank) runs.push_back(received[rank][k]);
    parts.push_back(runs.size() == 1 ? runs.front() : at::cat(runs));
  }
  return parts;
}

// The way back.
std::vector<at::Tensor> WholeMatrices::SpreadParts(const std::vector<at::Tensor>& parts,
                                                   const at::TensorOptions& options) const {
  const int64_t num_ranks = groups_.fsdp().size(), here = groups_.fsdp().rank();
  const std::vector<size_t> owned = OwnedByShard();
  Lists sent(num_ranks);
  std::vector<std::vector<int64_t>> sizes(num_ranks);
  for (int64_t rank = 0; rank < num_ranks; ++rank) {
    for (size_t k = 0; k < owned.size(); ++k) {
      const auto [begin, end] = Range(owned[k], rank);
      sent[rank].push_back(parts[k].narrow(0, begin, end - begin));
    }
  }
  for (size_t i = 0; i < matrices_.size(); ++i) {
    sizes[owners_[i].fsdp].push_back(Range(i, here).second - Range(i, here).first);
  }
  Lists received = Exchange(groups_.fsdp(), sent, sizes, options);
  std::vector<size_t> next(num_ranks, 0);
  std::vector<at::Tensor> pieces;
  for (const Owner& owner : owners_) pieces.push_back(std::move(received[owner.fsdp][next[owner.fsdp]++]));
  return pieces;
}

// From the parts of matrices that this rank of fsdp owns to the parts of what the function makes of them.
std::vector<at::Tensor> WholeMatrices::MapParts(const std::vector<at::Tensor>& parts, const Function& function,
                                                const at::TensorOptions& options) const {
  Communicator& tp = groups_.tp();
  const std::vector<size_t> owned = OwnedByShard();
  Lists sent(tp.size());
  std::vector<std::vector<int64_t>> sizes(tp.size());
  for (size_t k = 0; k < owned.size(); ++k) {
    if (!IsSplit(owned[k])) continue;
    sent[owners_[owned[k]].tp].push_back(parts[k]);
    if (!IsOwnedHere(owned[k])) continue;
    for (std::vector<int64_t>& size : sizes) size.push_back(parts[k].numel());
  }
  // Alone, nothing is split.
  Lists received = tp.size() == 1 ? Lists(1) : Exchange(tp, sent, sizes, options);
  std::vector<at::Tensor> results(owned.size());
  for (std::vector<at::Tensor>& list : sent) list.clear();
  size_t next = 0;
  for (size_t k = 0; k < owned.size(); ++k) {
    const Matrix& matrix = matrices_[owned[k]];
    if (!IsSplit(owned[k])) {
      results[k] = function(parts[k].view(matrix.shape)).reshape({-1});
      continue;
    }
    if (!IsOwnedHere(owned[k])) continue;
    std::vector<at::Tensor> local;
    for (int64_t rank = 0; rank < tp.size(); ++rank) local.push_back(received[rank][next].view(matrix.local_shape));
    ++next;
    const int64_t dimension = SplitDimension(matrix.split), extent = matrix.local_shape[dimension];
    const at::Tensor result = function(at::cat(local, dimension));
    for (int64_t rank = 0; rank < tp.size(); ++rank) {
      sent[rank].push_back(result.narrow(dimension, rank * extent, extent).reshape({-1}));
    }
  }
  if (tp.size() == 1) return results;
  for (std::vector<int64_t>& size : sizes) size.clear();
  for (size_t k = 0; k < owned.size(); ++k) {
    if (IsSplit(owned[k])) sizes[owners_[owned[k]].tp].push_back(parts[k].numel());
  }
  received = Exchange(tp, sent, sizes, options);
  std::vector<size_t> taken(tp.size(), 0);
  for (size_t k = 0; k < owned.size(); ++k) {
    const int64_t owner = owners_[owned[k]].tp;
    if (IsSplit(owned[k])) results[k] = received[owner][taken[owner]++];
  }
  return results;
}

std::vector<at::Tensor> WholeMatrices::Map(const std::vector<at::Tensor>& pieces, const Function& function) const {
  CHECK_EQ(pieces.size(), matrices_.size());
  if (pieces.empty()) return {};
  const at::TensorOptions options = pieces.front().options();
  return SpreadParts(MapParts(CollectParts(pieces), function, options), options);
}

}  // namespace titan
