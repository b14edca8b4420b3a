#include "kernels/cuda_device.cuh"
#include "kernels/swiglu_cuda.h"

namespace titan::cuda {
namespace {

constexpr int kThreads = 256;

template <typename A>
__device__ A Sigmoid(A x) {
  return A(1) / (A(1) + exp(-x));
}
template <>
__device__ float Sigmoid(float x) {
  return __fdividef(1.0f, 1.0f + __expf(-x));
}

// N elements a thread.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(const Vector<T, N>* gate, const Vector<T, N>* up, int64_t vectors, Vector<T, N>* out) {
  using A = Accumulator<T>;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= vectors) return;
  const Vector<T, N> a = gate[at], b = up[at];
  Vector<T, N> y;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const A x = static_cast<A>(a.at[i]);
    y.at[i] = static_cast<T>(x * Sigmoid(x) * static_cast<A>(b.at[i]));
  }
  out[at] = y;
}

// silu'(a) = s (1 + a (1 - s)) with s = 1 / (1 + exp(-a)).
template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    BackwardKernel(const Vector<T, N>* gate, const Vector<T, N>* up, const Vector<T, N>* dout, int64_t vectors,
                   Vector<T, N>* dgate, Vector<T, N>* dup) {
  using A = Accumulator<T>;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= vectors) return;
  const Vector<T, N> a = gate[at], b = up[at], dy = dout[at];
  Vector<T, N> da, db;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const A x = static_cast<A>(a.at[i]), gradient = static_cast<A>(dy.at[i]), sigmoid = Sigmoid(x);
    da.at[i] = static_cast<T>(gradient * static_cast<A>(b.at[i]) * sigmoid * (A(1) + x * (A(1) - sigmoid)));
    db.at[i] = static_cast<T>(gradient * x * sigmoid);
  }
  dgate[at] = da;
  dup[at] = db;
}

template <typename T, int N>
void Forward(const void* gate, const void* up, int64_t size, void* out, cudaStream_t stream) {
  using V = Vector<T, N>;
  ForwardKernel<T, N><<<NumBlocks(size / N, kThreads), kThreads, 0, stream>>>(
      static_cast<const V*>(gate), static_cast<const V*>(up), size / N, static_cast<V*>(out));
  CheckLaunch("swiglu forward");
}

template <typename T, int N>
void Backward(const void* gate, const void* up, const void* dout, int64_t size, void* dgate, void* dup,
              cudaStream_t stream) {
  using V = Vector<T, N>;
  BackwardKernel<T, N><<<NumBlocks(size / N, kThreads), kThreads, 0, stream>>>(
      static_cast<const V*>(gate), static_cast<const V*>(up), static_cast<const V*>(dout), size / N,
      static_cast<V*>(dgate), static_cast<V*>(dup));
  CheckLaunch("swiglu backward");
}

}  // namespace

void SwiGluForward(Element element, const void* gate, const void* up, int64_t size, void* out, Stream stream) {
  if (size == 0) return;
  Dispatch(element, [&]<typename T>(T) {
    const bool vectors = size % kVectorSize<T> == 0 && IsAligned(gate) && IsAligned(up) && IsAligned(out);
    (vectors ? Forward<T, kVectorSize<T>> : Forward<T, 1>)(gate, up, size, out, stream);
  });
}

void SwiGluBackward(Element element, const void* gate, const void* up, const void* dout, int64_t size, void* dgate,
                    void* dup, Stream stream) {
  if (size == 0) return;
  Dispatch(element, [&]<typename T>(T) {
    const bool vectors = size % kVectorSize<T> == 0 && IsAligned(gate) && IsAligned(up) && IsAligned(dout) &&
                         IsAligned(dgate) && IsAligned(dup);
    (vectors ? Backward<T, kVectorSize<T>> : Backward<T, 1>)(gate, up, dout, size, dgate, dup, stream);
  });
}

}  // namespace titan::cuda
