#include "kernels/cuda_device.cuh"
#include "kernels/global_norm_cuda.h"
#include "kernels/tensor_table.cuh"

namespace titan::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSumThreads = 1024;
// Vectors that a thread loads before it uses the first.
constexpr int kUnroll = 4;
// Tensors of one launch, whose table travels with the kernel's parameters: 10 of the 32 kB that there are for them.
constexpr int kMaxTensors = 512;

using Table = TensorTable<NormTensor, kMaxTensors>;

// This thread's part of the squares of x[begin, end), read N elements at a time; N divides both.
template <typename T, int N>
__device__ double SumOfSquares(const T* x, int begin, int end) {
  using V = Vector<T, N>;
  double sums[kUnroll] = {};  // several, for the additions of one wait for each other
  for (int first = begin + threadIdx.x * N; first < end; first += kUnroll * kThreads * N) {
    V values[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int at = first + u * kThreads * N;
      if (at >= end) break;
      values[u] = *reinterpret_cast<const V*>(x + at);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (first + u * kThreads * N >= end) break;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const double value = static_cast<double>(static_cast<Accumulator<T>>(values[u].at[i]));
        sums[u] += value * value;
      }
    }
  }
  double sum = 0;
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) sum += sums[u];
  return sum;
}

// A chunk per block, a partial sum each.
template <typename T>
__global__ void __launch_bounds__(kThreads) SumOfSquaresKernel(const __grid_constant__ Table table, double* partials) {
  constexpr int N = kVectorSize<T>;
  __shared__ double shared[kThreads / kWarp];
  const int index = table.Index();
  const int64_t begin = table.Chunk(index) * kNormChunk;
  const T* const x = static_cast<const T*>(table.tensors[index].data) + begin;
  const int size = static_cast<int>(min(kNormChunk, table.tensors[index].size - begin));
  const bool aligned = reinterpret_cast<uintptr_t>(x) % alignof(Vector<T, N>) == 0;
  const int in_vectors = aligned ? size / N * N : 0;
  const double sum = SumOfSquares<T, N>(x, 0, in_vectors) + SumOfSquares<T, 1>(x, in_vectors, size);
  const double total = BlockSum(sum, shared);
  if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

// One block.
__global__ void __launch_bounds__(kSumThreads) RootOfSumKernel(const double* partials, int64_t count, double* norm) {
  __shared__ double shared[kSumThreads / kWarp];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kSumThreads) sum += partials[i];
  const double total = BlockSum(sum, shared);
  if (threadIdx.x == 0) *norm = sqrt(total);
}

// Fills `partials` and returns how many there are.
template <typename T>
int64_t SumSquares(const NormTensor* tensors, int64_t count, double* partials, cudaStream_t stream) {
  int64_t written = 0;
  ForEachTable<kMaxTensors>(tensors, count, NumNormPartials, [&](const Table& table, unsigned blocks) {
    SumOfSquaresKernel<T><<<blocks, kThreads, 0, stream>>>(table, partials + written);
    CheckLaunch("global_norm squares");
    written += blocks;
  });
  return written;
}

}  // namespace

void GlobalNorm(Element element, const NormTensor* tensors, int64_t count, double* partials, double* norm,
                Stream stream) {
  Dispatch(element, [&]<typename T>(T) {
    const int64_t written = SumSquares<T>(tensors, count, partials, stream);
    RootOfSumKernel<<<1, kSumThreads, 0, stream>>>(partials, written, norm);
    CheckLaunch("global_norm root");
  });
}

}  // namespace titan::cuda
