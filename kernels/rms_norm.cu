#include "kernels/cuda_device.cuh"
#include "kernels/rms_norm_cuda.h"

namespace titan::cuda {
namespace {

constexpr int kThreads = 256;
// Of the backward kernel for rows in registers: with more threads each needs fewer, and more loads are under way.
constexpr int kBackwardThreads = 512;
// Vectors of a row that a thread keeps in registers at most; longer rows are read twice.
constexpr int kMaxVectors = 4;

template <typename T>
struct ForwardPointers {
  const T* x;
  const T* residual;
  const T* weight;
  T* sum;
  T* y;
  Accumulator<T>* inverse_rms;
};

template <typename T>
struct BackwardPointers {
  const T* x;
  const T* weight;
  const Accumulator<T>* inverse_rms;
  const T* dy;
  const T* dsum;
  T* dx;
  Accumulator<T>* partials;
};

template <typename T, int N>
__device__ Vector<T, N> Load(const T* row, int64_t vector) {
  return reinterpret_cast<const Vector<T, N>*>(row)[vector];
}

template <typename T, int N>
__device__ void Store(T* row, int64_t vector, const Vector<T, N>& value) {
  reinterpret_cast<Vector<T, N>*>(row)[vector] = value;
}

template <typename T>
__device__ T Normalized(T x, Accumulator<T> inverse_rms, T weight) {
  using A = Accumulator<T>;
  const T rounded = static_cast<T>(static_cast<A>(x) * inverse_rms);
  return static_cast<T>(static_cast<A>(rounded) * static_cast<A>(weight));
}

// A block per row, which stays in registers: V vectors of N elements a thread.
template <typename T, int N, int V, bool kAdd>
__global__ void __launch_bounds__(kThreads) ForwardKernel(ForwardPointers<T> p, int64_t dim, Accumulator<T> eps) {
  using A = Accumulator<T>;
  __shared__ A shared[kThreads / kWarp];
  const int64_t start = blockIdx.x * dim;
  Vector<T, N> x[V];
  A squares = 0;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int64_t at = threadIdx.x + v * kThreads;
    if (at * N >= dim) break;
    x[v] = Load<T, N>(p.x + start, at);
    if constexpr (kAdd) {
      const Vector<T, N> residual = Load<T, N>(p.residual + start, at);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        x[v].at[i] = static_cast<T>(static_cast<A>(x[v].at[i]) + static_cast<A>(residual.at[i]));
      }
      Store<T, N>(p.sum + start, at, x[v]);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) squares += static_cast<A>(x[v].at[i]) * static_cast<A>(x[v].at[i]);
  }
  const A inverse_rms = A(1) / sqrt(BlockSum(squares, shared) / static_cast<A>(dim) + eps);
  if (threadIdx.x == 0) p.inverse_rms[blockIdx.x] = inverse_rms;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int64_t at = threadIdx.x + v * kThreads;
    if (at * N >= dim) break;
    const Vector<T, N> weight = Load<T, N>(p.weight, at);
    Vector<T, N> y;
#pragma unroll
    for (int i = 0; i < N; ++i) y.at[i] = Normalized(x[v].at[i], inverse_rms, weight.at[i]);
    Store<T, N>(p.y + start, at, y);
  }
}

// The same for any row length and alignment, element by element.
template <typename T, bool kAdd>
__global__ void __launch_bounds__(kThreads) LongForwardKernel(ForwardPointers<T> p, int64_t dim, Accumulator<T> eps) {
  using A = Accumulator<T>;
  __shared__ A shared[kThreads / kWarp];
  const int64_t start = blockIdx.x * dim;
  const T* const row = (kAdd ? p.sum : p.x) + start;
  A squares = 0;
  for (int64_t i = threadIdx.x; i < dim; i += kThreads) {
    if constexpr (kAdd) {
      p.sum[start + i] = static_cast<T>(static_cast<A>(p.x[start + i]) + static_cast<A>(p.residual[start + i]));
    }
    squares += static_cast<A>(row[i]) * static_cast<A>(row[i]);
  }
  const A inverse_rms = A(1) / sqrt(BlockSum(squares, shared) / static_cast<A>(dim) + eps);
  if (threadIdx.x == 0) p.inverse_rms[blockIdx.x] = inverse_rms;
  for (int64_t i = threadIdx.x; i < dim; i += kThreads) p.y[start + i] = Normalized(row[i], inverse_rms, p.weight[i]);
}

// Rows are dealt out to the blocks in turn, so that a block's part of the weight's gradient stays in registers.
template <typename T, int N, int V, bool kAdd>
__global__ void __launch_bounds__(kBackwardThreads, V == 1 ? 2 : 1)
    BackwardKernel(BackwardPointers<T> p, int64_t rows, int64_t dim) {
  using A = Accumulator<T>;
  __shared__ A shared[2][kBackwardThreads / kWarp];
  Vector<T, N> weight[V];
  A dweight[V][N];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int64_t at = threadIdx.x + v * kBackwardThreads;
#pragma unroll
    for (int i = 0; i < N; ++i) dweight[v][i] = 0;
    if (at * N < dim) weight[v] = Load<T, N>(p.weight, at);
  }
  int turn = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x, turn ^= 1) {
    const int64_t start = row * dim;
    const A inverse_rms = p.inverse_rms[row];
    Vector<T, N> x[V], dy[V], dsum[V];
    A dot = 0;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int64_t at = threadIdx.x + v * kBackwardThreads;
      if (at * N >= dim) break;
      x[v] = Load<T, N>(p.x + start, at);
      dy[v] = Load<T, N>(p.dy + start, at);
      if constexpr (kAdd) dsum[v] = Load<T, N>(p.dsum + start, at);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const A normalized = static_cast<A>(x[v].at[i]) * inverse_rms, gradient = static_cast<A>(dy[v].at[i]);
        dweight[v][i] += gradient * normalized;
        dot += gradient * static_cast<A>(weight[v].at[i]) * normalized;
      }
    }
    const A mean = BlockSumOf(dot, shared[turn]) / static_cast<A>(dim);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int64_t at = threadIdx.x + v * kBackwardThreads;
      if (at * N >= dim) break;
      Vector<T, N> dx;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const A normalized = static_cast<A>(x[v].at[i]) * inverse_rms;
        A gradient = (static_cast<A>(dy[v].at[i]) * static_cast<A>(weight[v].at[i]) - normalized * mean) * inverse_rms;
        if constexpr (kAdd) gradient += static_cast<A>(dsum[v].at[i]);
        dx.at[i] = static_cast<T>(gradient);
      }
      Store<T, N>(p.dx + start, at, dx);
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int64_t at = threadIdx.x + v * kBackwardThreads;
    if (at * N >= dim) break;
#pragma unroll
    for (int i = 0; i < N; ++i) p.partials[blockIdx.x * dim + at * N + i] = dweight[v][i];
  }
}

// The same for any row length and alignment; the partial sums lie in memory.
template <typename T, bool kAdd>
__global__ void __launch_bounds__(kThreads) LongBackwardKernel(BackwardPointers<T> p, int64_t rows, int64_t dim) {
  using A = Accumulator<T>;
  __shared__ A shared[kThreads / kWarp];
  A* const dweight = p.partials + blockIdx.x * dim;
  for (int64_t i = threadIdx.x; i < dim; i += kThreads) dweight[i] = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t start = row * dim;
    const A inverse_rms = p.inverse_rms[row];
    A dot = 0;
    for (int64_t i = threadIdx.x; i < dim; i += kThreads) {
      const A normalized = static_cast<A>(p.x[start + i]) * inverse_rms, gradient = static_cast<A>(p.dy[start + i]);
      dweight[i] += gradient * normalized;
      dot += gradient * static_cast<A>(p.weight[i]) * normalized;
    }
    const A mean = BlockSum(dot, shared) / static_cast<A>(dim);
    for (int64_t i = threadIdx.x; i < dim; i += kThreads) {
      const A normalized = static_cast<A>(p.x[start + i]) * inverse_rms;
      A gradient = (static_cast<A>(p.dy[start + i]) * static_cast<A>(p.weight[i]) - normalized * mean) * inverse_rms;
      if constexpr (kAdd) gradient += static_cast<A>(p.dsum[start + i]);
      p.dx[start + i] = static_cast<T>(gradient);
    }
  }
}

// Columns of (partials, dim): a warp's width of them per block, whose warps share the rows.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    SumPartialsKernel(const Accumulator<T>* partials, int64_t count, int64_t dim, T* dweight) {
  using A = Accumulator<T>;
  __shared__ A sums[kThreads / kWarp][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
  A sum = 0;
  if (column < dim) {
    for (int64_t row = warp; row < count; row += kThreads / kWarp) sum += partials[row * dim + column];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= dim) return;
  for (int i = 1; i < kThreads / kWarp; ++i) sum += sums[i][lane];
  dweight[column] = static_cast<T>(sum);
}

// Calls `launch` with the vectors per thread that hold a row, or with 0 where only the long kernel will do.
template <typename T, int kBlock, typename F>
void WithVectors(int64_t dim, bool aligned, const F& launch) {
  constexpr int64_t kPerVector = int64_t{kVectorSize<T>} * kBlock;  // elements that one vector a thread holds
  if (!aligned || dim % kVectorSize<T> != 0 || dim > kPerVector * kMaxVectors) {
    launch(std::integral_constant<int, 0>());
  } else if (dim <= kPerVector) {
    launch(std::integral_constant<int, 1>());
  } else if (dim <= kPerVector * 2) {
    launch(std::integral_constant<int, 2>());
  } else {
    launch(std::integral_constant<int, kMaxVectors>());
  }
}

template <typename T, bool kAdd>
void Forward(const RmsNormForwardArguments& a, cudaStream_t stream) {
  const ForwardPointers<T> p{static_cast<const T*>(a.x),
                             static_cast<const T*>(a.residual),
                             static_cast<const T*>(a.weight),
                             static_cast<T*>(a.sum),
                             static_cast<T*>(a.y),
                             static_cast<Accumulator<T>*>(a.inverse_rms)};
  const bool aligned =
      IsAligned(a.x) && IsAligned(a.residual) && IsAligned(a.weight) && IsAligned(a.sum) && IsAligned(a.y);
  const unsigned blocks = static_cast<unsigned>(a.rows);
  const auto eps = static_cast<Accumulator<T>>(a.eps);
  WithVectors<T, kThreads>(a.dim, aligned, [&](auto vectors) {
    if constexpr (vectors.value == 0) {
      LongForwardKernel<T, kAdd><<<blocks, kThreads, 0, stream>>>(p, a.dim, eps);
    } else {
      ForwardKernel<T, kVectorSize<T>, vectors.value, kAdd><<<blocks, kThreads, 0, stream>>>(p, a.dim, eps);
    }
  });
  CheckLaunch("rms_norm forward");
}

template <typename T, bool kAdd>
void Backward(const RmsNormBackwardArguments& a, cudaStream_t stream) {
  using A = Accumulator<T>;
  const BackwardPointers<T> p{static_cast<const T*>(a.x),           static_cast<const T*>(a.weight),
                              static_cast<const A*>(a.inverse_rms), static_cast<const T*>(a.dy),
                              static_cast<const T*>(a.dsum),        static_cast<T*>(a.dx),
                              static_cast<A*>(a.partials)};
  const bool aligned = IsAligned(a.x) && IsAligned(a.weight) && IsAligned(a.dy) && IsAligned(a.dsum) && IsAligned(a.dx);
  const unsigned blocks = static_cast<unsigned>(kRmsNormPartials);
  WithVectors<T, kBackwardThreads>(a.dim, aligned, [&](auto vectors) {
    if constexpr (vectors.value == 0) {
      LongBackwardKernel<T, kAdd><<<blocks, kThreads, 0, stream>>>(p, a.rows, a.dim);
    } else {
      BackwardKernel<T, kVectorSize<T>, vectors.value, kAdd><<<blocks, kBackwardThreads, 0, stream>>>(p, a.rows, a.dim);
    }
  });
  CheckLaunch("rms_norm backward");
  SumPartialsKernel<T><<<NumBlocks(a.dim, kWarp), kThreads, 0, stream>>>(p.partials, kRmsNormPartials, a.dim,
                                                                         static_cast<T*>(a.dweight));
  CheckLaunch("rms_norm weight gradient");
}

}  // namespace

void RmsNormForward(const RmsNormForwardArguments& arguments, Stream stream) {
  if (arguments.rows == 0 || arguments.dim == 0) return;
  Dispatch(arguments.element, [&]<typename T>(T) {
    arguments.residual != nullptr ? Forward<T, true>(arguments, stream) : Forward<T, false>(arguments, stream);
  });
}

void RmsNormBackward(const RmsNormBackwardArguments& arguments, Stream stream) {
  if (arguments.dim == 0) return;
  Dispatch(arguments.element, [&]<typename T>(T) {
    arguments.dsum != nullptr ? Backward<T, true>(arguments, stream) : Backward<T, false>(arguments, stream);
  });
}

}  // namespace titan::cuda
