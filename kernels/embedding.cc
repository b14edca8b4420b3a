#include "kernels/embedding.h"

#include <ATen/Parallel.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sort.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/cuda.h"
#include "kernels/embedding_cuda.h"
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

// Adds each row's gradients up, and gives the row and the sum to `put`. Rows that do not occur: only with `all`, zeros.
template <typename T, typename Put>
void SumRowsCpu(const at::Tensor& indices, const at::Tensor& dout, int64_t rows, bool all, const Put& put) {
  using A = Accumulator<T>;
  const int64_t dim = dout.size(-1);
  const PositionsByIndex sorted = SortByIndex(indices, rows);
  const T* dy = dout.const_data_ptr<T>();
  at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
    std::vector<A> sum(dim);
    WithBestSimd([&]() TITAN_INLINE_LAMBDA {
      for (int64_t v = begin; v < end; ++v) {
        if (!all && sorted.starts[v] == sorted.starts[v + 1]) continue;
        std::fill(sum.begin(), sum.end(), A(0));
        for (int64_t at = sorted.starts[v]; at < sorted.starts[v + 1]; ++at) {
          AddRow<T>(dy + sorted.order[at] * dim, dim, sum.data());
        }
        put(v, sum.data());
      }
    });
  });
}

at::Tensor BackwardCpu(const at::Tensor& indices, const at::Tensor& dout, int64_t rows) {
  const int64_t dim = dout.size(-1);
  at::Tensor dtable = at::empty({rows, dim}, dout.options());
  DispatchFloating(dout.scalar_type(), "embedding backward", [&]<typename T>() {
    T* dt = dtable.mutable_data_ptr<T>();
    SumRowsCpu<T>(indices, dout, rows, /*all=*/true, [&](int64_t v, const Accumulator<T>* sum) TITAN_INLINE_LAMBDA {
      for (int64_t i = 0; i < dim; ++i) dt[v * dim + i] = static_cast<T>(sum[i]);
    });
  });
  return dtable;
}

void AddCpu(const at::Tensor& indices, const at::Tensor& dout, const at::Tensor& sum) {
  const int64_t dim = dout.size(-1);
  DispatchFloating(dout.scalar_type(), "embedding gradient", [&]<typename T>() {
    Accumulator<T>* to = sum.mutable_data_ptr<Accumulator<T>>();
    SumRowsCpu<T>(indices, dout, sum.size(0), /*all=*/false,
                  [&](int64_t v, const Accumulator<T>* row) TITAN_INLINE_LAMBDA {
                    for (int64_t i = 0; i < dim; ++i) to[v * dim + i] += row[i];
                  });
  });
}

void AddCuda(const at::Tensor& indices, const at::Tensor& dout, const at::Tensor& sum) {
  const auto [sorted, order] = at::sort(indices.view({-1}), /*stable=*/true, /*dim=*/0, /*descending=*/false);
  if constexpr (cuda::kHasKernels) {
    cuda::AddEmbeddingGradient({.element = cuda::ElementOf(dout),
                                .indices = sorted.const_data_ptr<int64_t>(),
                                .order = order.const_data_ptr<int64_t>(),
                                .count = sorted.numel(),
                                .dout = dout.const_data_ptr(),
                                .dim = dout.size(-1),
                                .sum = sum.mutable_data_ptr()},
                               cuda::CurrentStream(dout));
  }
}

// (V, D), of dout's dtype.
at::Tensor Backward(const at::Tensor& indices, const at::Tensor& dout, int64_t rows) {
  if (dout.is_cpu()) return BackwardCpu(indices, dout, rows);
  return at::embedding_dense_backward(dout, indices, rows, /*padding_idx=*/-1, /*scale_grad_by_freq=*/false);
}

}  // namespace

at::Tensor Embedding(const at::Tensor& indices, const at::Tensor& table, TakeEmbeddingGradient take_gradient) {
  TORCH_CHECK(indices.scalar_type() == at::kLong && table.dim() == 2, "embedding: expects int64 indices and a (V, D) ",
              "table, got ", indices.scalar_type(), " and ", table.sizes());
  const auto forward = [index = indices.contiguous()](const TensorVector& in) -> Recorded {
    const at::Tensor rows = in[0].is_cpu() ? GatherCpu(index, in[0].contiguous()) : at::embedding(in[0], index);
    return {.outputs = {rows}, .saved = {index, in[0]}};
  };
  const auto backward = [take = std::move(take_gradient)](const TensorVector& saved,
                                                          const TensorVector& gradients) -> TensorVector {
    const at::Tensor dout = gradients[0].contiguous();
    if (take == nullptr) return {Backward(saved[0], dout, saved[1].size(0))};
    take(saved[1], dout);
    return {at::Tensor()};
  };
  return ApplyFunction({table}, forward, backward)[0];
}

void AddEmbeddingGradient(const at::Tensor& indices, const at::Tensor& dout, const at::Tensor& sum) {
  const at::Tensor index = indices.contiguous(), rows = dout.contiguous();
  TORCH_CHECK(index.numel() * sum.size(1) == rows.numel() && rows.size(-1) == sum.size(1),
              "embedding gradient: ", rows.sizes(), " does not fit indices ", index.sizes(), " and a sum ",
              sum.sizes());
  const at::ScalarType wide = rows.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  if (sum.scalar_type() != wide || !sum.is_contiguous()) {
    sum.add_(Backward(index, rows, sum.size(0)));
  } else if (rows.is_cpu()) {
    AddCpu(index, rows, sum);
  } else {
    cuda::CheckDevice(rows, "embedding gradient");
    AddCuda(index, rows, sum);
  }
}

}  // namespace titan
