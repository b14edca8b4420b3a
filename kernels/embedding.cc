#include "kernels/embedding.h"

#include <ATen/Parallel.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/function.h"
#include "kernels/simd.h"

namespace titan {
namespace {

at::Tensor GatherCpu(const at::Tensor& indices, const at::Tensor& table) {
  const int64_t rows = table.size(0);
  const size_t row_bytes = static_cast<size_t>(table.size(1)) * table.element_size();
  std::vector<int64_t> shape = indices.sizes().vec();
  shape.push_back(table.size(1));
  at::Tensor out = at::empty(shape, table.options());
  const int64_t* index = indices.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < indices.numel(); ++i) {
    TORCH_CHECK_INDEX(index[i] >= 0 && index[i] < rows, "embedding: index ", index[i], " at position ", i,
                      " is not in [0, ", rows, ")");
  }
  const char* from = static_cast<const char*>(table.const_data_ptr());
  char* to = static_cast<char*>(out.mutable_data_ptr());
  at::parallel_for(0, indices.numel(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::memcpy(to + i * row_bytes, from + index[i] * row_bytes, row_bytes);
  });
  return out;
}

// starts[v] .. starts[v + 1] are the places in `order` of the positions whose index is v, in ascending order.
struct PositionsByIndex {
  std::vector<int64_t> starts, order;
};

PositionsByIndex SortByIndex(const at::Tensor& indices, int64_t rows) {
  const int64_t* index = indices.const_data_ptr<int64_t>();
  const int64_t count = indices.numel();
  PositionsByIndex sorted{std::vector<int64_t>(rows + 1, 0), std::vector<int64_t>(count)};
  for (int64_t i = 0; i < count; ++i) ++sorted.starts[index[i] + 1];
  for (int64_t v = 0; v < rows; ++v) sorted.starts[v + 1] += sorted.starts[v];
  std::vector<int64_t> next(sorted.starts.begin(), sorted.starts.end() - 1);
  for (int64_t i = 0; i < count; ++i) sorted.order[next[index[i]]++] = i;
  return sorted;
}

template <typename T>
TITAN_INLINE void AddRow(const T* __restrict row, int64_t dim, Accumulator<T>* __restrict sum) {
#pragma omp simd
  for (int64_t i = 0; i < dim; ++i) sum[i] += static_cast<Accumulator<T>>(row[i]);
}

at::Tensor BackwardCpu(const at::Tensor& indices, const at::Tensor& dout, int64_t rows) {
  const int64_t dim = dout.size(-1);
  const PositionsByIndex sorted = SortByIndex(indices, rows);
  at::Tensor dtable = at::empty({rows, dim}, dout.options());
  DispatchFloating(dout.scalar_type(), "embedding backward", [&]<typename T>() {
    using A = Accumulator<T>;
    const T* dy = dout.const_data_ptr<T>();
    T* dt = dtable.mutable_data_ptr<T>();
    at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
      std::vector<A> sum(dim);
      WithBestSimd([&]() TITAN_INLINE_LAMBDA {
        for (int64_t v = begin; v < end; ++v) {
          std::fill(sum.begin(), sum.end(), A(0));
          for (int64_t at = sorted.starts[v]; at < sorted.starts[v + 1]; ++at) {
            AddRow<T>(dy + sorted.order[at] * dim, dim, sum.data());
          }
          for (int64_t i = 0; i < dim; ++i) dt[v * dim + i] = static_cast<T>(sum[i]);
        }
      });
    });
  });
  return dtable;
}

at::Tensor RecordEmbedding(const at::Tensor& indices, const at::Tensor& table) {
  const int64_t rows = table.size(0);
  const auto forward = [&](const TensorVector& in) -> Recorded {
    return {.outputs = {GatherCpu(indices, in[0].contiguous())}, .saved = {indices}};
  };
  const auto backward = [rows](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    return {BackwardCpu(saved[0], gradients[0].contiguous(), rows)};
  };
  return ApplyFunction({table}, forward, backward)[0];
}

}  // namespace

at::Tensor Embedding(const at::Tensor& indices, const at::Tensor& table) {
  TORCH_CHECK(indices.scalar_type() == at::kLong && table.dim() == 2, "embedding: expects int64 indices and a (V, D) ",
              "table, got ", indices.scalar_type(), " and ", table.sizes());
  if (!table.is_cpu()) return at::embedding(table, indices);
  return RecordEmbedding(indices.contiguous(), table);
}

}  // namespace titan
