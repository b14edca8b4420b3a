#include "kernels/cuda_device.cuh"
#include "kernels/embedding_cuda.h"

namespace titan::cuda {
namespace {

constexpr int kThreads = 128;
// Rows that a thread loads before it adds the first: a frequent token has hundreds.
constexpr int kUnroll = 8;

// blockIdx.x: a place in the order, of which the first of each index works; blockIdx.y: kThreads vectors of N columns.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) AddRowsKernel(const int64_t* indices, const int64_t* order, int64_t count,
                                                          const T* dout, int64_t dim, Accumulator<T>* sum) {
  using A = Accumulator<T>;
  const int64_t begin = blockIdx.x, index = indices[begin];
  if (begin > 0 && indices[begin - 1] == index) return;
  const int64_t column = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  if (column >= dim) return;
  A total[N] = {};
  for (int64_t first = begin; first < count && indices[first] == index; first += kUnroll) {
    Vector<T, N> rows[kUnroll];
    int found = 0;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (first + u >= count || indices[first + u] != index) break;
      rows[u] = *reinterpret_cast<const Vector<T, N>*>(dout + order[first + u] * dim + column);
      ++found;
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (u >= found) break;
#pragma unroll
      for (int i = 0; i < N; ++i) total[i] += static_cast<A>(rows[u].at[i]);
    }
  }
  constexpr int M = N == 1 ? 1 : kVectorSize<A>;
  auto* const to = reinterpret_cast<Vector<A, M>*>(sum + index * dim + column);
#pragma unroll
  for (int i = 0; i < N; i += M) {
    Vector<A, M> old = to[i / M];
#pragma unroll
    for (int j = 0; j < M; ++j) old.at[j] += total[i + j];
    to[i / M] = old;
  }
}

template <typename T, int N>
void Launch(const EmbeddingGradientArguments& a, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(a.count), NumBlocks(a.dim, kThreads * N));
  AddRowsKernel<T, N><<<blocks, kThreads, 0, stream>>>(a.indices, a.order, a.count, static_cast<const T*>(a.dout),
                                                       a.dim, static_cast<Accumulator<T>*>(a.sum));
  CheckLaunch("embedding gradient");
}

}  // namespace

void AddEmbeddingGradient(const EmbeddingGradientArguments& a, Stream stream) {
  if (a.count == 0) return;
  Dispatch(a.element, [&]<typename T>(T) {
    const bool vectors = a.dim % kVectorSize<T> == 0 && IsAligned(a.dout) && IsAligned(a.sum);
    (vectors ? Launch<T, kVectorSize<T>> : Launch<T, 1>)(a, stream);
  });
}

}  // namespace titan::cuda
