#include <cfloat>
#include <cmath>

#include "kernels/cuda_device.cuh"
#include "kernels/linear_cross_entropy_cuda.h"

namespace titan::cuda {
namespace {

constexpr int kThreads = 1024;
// Vectors of a row that a thread has under way at once.
constexpr int kUnroll = 4;
// Vectors that a block has under way at once.
constexpr int64_t kStride = int64_t{kThreads} * kUnroll;

// The sum of exp(x) is kept as a shift, made of the largest x, and a sum of terms of which that one is about 1. In fp32
// all is to the base 2, the one the hardware has: shift = log2(e) x, rounded, term = 2^(log2(e) x - shift). No term
// suffers from that rounding, since LogSum adds the same shift.
constexpr float kLog2E = 1.44269504f;

// Results below 2^-126 become 0, which saves exp2f's three further instructions.
__device__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ float Shift(float x) { return kLog2E * x; }
__device__ float Term(float x, float shift) { return Exp2(fmaf(kLog2E, x, -shift)); }
__device__ float Rescale(float from, float to) { return Exp2(from - to); }
__device__ double LogSum(float shift, float sum) {
  return (static_cast<double>(shift) + log2(static_cast<double>(sum))) / static_cast<double>(kLog2E);
}

__device__ double Shift(double x) { return x; }
__device__ double Term(double x, double shift) { return exp(x - shift); }
__device__ double Rescale(double from, double to) { return exp(from - to); }
__device__ double LogSum(double shift, double sum) { return shift + log(sum); }

template <typename A>
struct Normalizer {
  A shift, sum;
};

template <typename A>
__device__ A BlockMax(A value, A* shared) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = max(value, __shfl_xor_sync(~0u, value, distance));
  }
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  for (int i = 0; i < kThreads / kWarp; ++i) value = max(value, shared[i]);
  __syncthreads();  // shared may be written again
  return value;
}

// This thread's vectors from `first` on; -inf, which adds nothing to a sum of exponentials, beyond the row.
template <typename T, int N>
__device__ void Load(const Vector<T, N>* row, int64_t first, int64_t vectors, Vector<T, N> (&x)[kUnroll]) {
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int64_t at = first + u * kThreads;
    if (at < vectors) {
      x[u] = row[at];
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) x[u].at[i] = static_cast<T>(-INFINITY);
    }
  }
}

// Of a whole row (vectors * N), for every thread.
template <typename T, int N>
__device__ Normalizer<Accumulator<T>> Normalize(const Vector<T, N>* row, int64_t vectors, Accumulator<T>* shared) {
  using A = Accumulator<T>;
  // Finite, so that a thread without elements does not compute inf - inf.
  A shift = -FLT_MAX, sum = 0;
  for (int64_t first = threadIdx.x; first < vectors; first += kStride) {
    Vector<T, N> x[kUnroll];
    Load(row, first, vectors, x);
    A largest = static_cast<A>(x[0].at[0]);
#pragma unroll
    for (int i = 1; i < kUnroll * N; ++i) largest = max(largest, static_cast<A>(x[i / N].at[i % N]));
    const A next = max(shift, Shift(largest));
    sum *= Rescale(shift, next);
    shift = next;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      A part = 0;
#pragma unroll
      for (int i = 0; i < N; ++i) part += Term(static_cast<A>(x[u].at[i]), shift);
      sum += part;
    }
  }
  const A total_shift = BlockMax(shift, shared);
  return {total_shift, BlockSum(sum * Rescale(shift, total_shift), shared)};
}

// The row becomes its softmax, times `factor`. From the end, because what Normalize read last is what the caches still
// hold.
template <typename T, int N>
__device__ void WriteSoftmax(Vector<T, N>* row, int64_t vectors, const Normalizer<Accumulator<T>>& normalizer,
                             Accumulator<T> factor) {
  using A = Accumulator<T>;
  const A scale = factor / normalizer.sum;
  for (int64_t first = vectors / kStride * kStride + threadIdx.x; first >= 0; first -= kStride) {
    Vector<T, N> x[kUnroll];
    Load(row, first, vectors, x);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t at = first + u * kThreads;
      if (at >= vectors) break;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        x[u].at[i] = static_cast<T>(Term(static_cast<A>(x[u].at[i]), normalizer.shift) * scale);
      }
      row[at] = x[u];
    }
  }
}

template <typename T, int N>
__device__ void WriteZeros(Vector<T, N>* row, int64_t vectors) {
  Vector<T, N> zeros;
#pragma unroll
  for (int i = 0; i < N; ++i) zeros.at[i] = static_cast<T>(0.0f);
  for (int64_t at = threadIdx.x; at < vectors; at += kThreads) row[at] = zeros;
}

// A block per row: so few rows are under way that the L2 cache still holds them when they are written. In bf16 a
// block's registers leave no room for a second one beside it, and 132 rows of 128256 are 34 MB.
template <typename T, int N, bool kGradient>
__global__ void __launch_bounds__(kThreads)
    CrossEntropyKernel(T* logits, const int64_t* labels, int64_t vocab, const double* scale, double* losses) {
  using A = Accumulator<T>;
  __shared__ A shared[kThreads / kWarp];
  T* const row = logits + blockIdx.x * vocab;
  auto* const row_vectors = reinterpret_cast<Vector<T, N>*>(row);
  const int64_t vectors = vocab / N, label = labels[blockIdx.x];
  if (label == kCrossEntropyIgnored) {
    if (threadIdx.x == 0) losses[blockIdx.x] = 0;
    if constexpr (kGradient) WriteZeros<T, N>(row_vectors, vectors);
    return;
  }
  const bool is_valid = label >= 0 && label < vocab;
  const A target = is_valid ? static_cast<A>(row[label]) : static_cast<A>(NAN);  // before the row is overwritten
  const Normalizer<A> normalizer = Normalize<T, N>(row_vectors, vectors, shared);
  if (threadIdx.x == 0) losses[blockIdx.x] = LogSum(normalizer.shift, normalizer.sum) - static_cast<double>(target);
  if constexpr (kGradient) {
    const A factor = scale == nullptr ? A(1) : static_cast<A>(*scale);
    WriteSoftmax<T, N>(row_vectors, vectors, normalizer, factor);
    __syncthreads();  // the label's element is written a second time
    if (threadIdx.x == 0 && is_valid) {
      row[label] = static_cast<T>((Term(target, normalizer.shift) / normalizer.sum - A(1)) * factor);
    }
  }
}

template <typename T, int N>
void Launch(void* logits, const int64_t* labels, int64_t rows, int64_t vocab, bool gradient, const double* scale,
            double* losses, cudaStream_t stream) {
  const auto kernel = gradient ? CrossEntropyKernel<T, N, true> : CrossEntropyKernel<T, N, false>;
  kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(static_cast<T*>(logits), labels, vocab, scale, losses);
  CheckLaunch("linear_cross_entropy");
}

}  // namespace

void CrossEntropyRows(Element element, void* logits, const int64_t* labels, int64_t rows, int64_t vocab, bool gradient,
                      const double* scale, double* losses, Stream stream) {
  if (rows == 0) return;
  Dispatch(element, [&]<typename T>(T) {
    const bool vectors = vocab % kVectorSize<T> == 0 && IsAligned(logits);
    (vectors ? Launch<T, kVectorSize<T>> : Launch<T, 1>)(logits, labels, rows, vocab, gradient, scale, losses, stream);
  });
}

}  // namespace titan::cuda
