#include "kernels/cuda_device.cuh"
#include "kernels/rope_cuda.h"

namespace titan::cuda {
namespace {

constexpr int kThreads = 256;

// A thread per N pairs (i, i + d/2) of a head; neighbours take neighbouring pairs, then the next head, then the next
// token, so that the table of a token is read from memory once.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) RopeKernel(RopeArguments a) {
  using A = Accumulator<T>;
  const int half = static_cast<int>(a.dim) / 2, per_head = half / N;
  const int per_token = per_head * static_cast<int>(a.heads);
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t token = index / per_token;
  if (token >= a.batch * a.sequence) return;
  const int within = static_cast<int>(index - token * per_token);
  const int head = within / per_head, pair = (within - head * per_head) * N;
  const int64_t row = token / a.sequence;
  const T* const from = static_cast<const T*>(a.x) + row * a.batch_stride +
                        (token - row * a.sequence) * a.token_stride + head * a.head_stride + pair;
  T* const to = static_cast<T*>(a.y) + (token * a.heads + head) * a.dim + pair;
  const A* const cos = static_cast<const A*>(a.cos) + token * half + pair;
  const A* const sin = static_cast<const A*>(a.sin) + token * half + pair;
  const auto first = *reinterpret_cast<const Vector<T, N>*>(from);
  const auto second = *reinterpret_cast<const Vector<T, N>*>(from + half);
  Vector<T, N> y1, y2;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const A x1 = static_cast<A>(first.at[i]), x2 = static_cast<A>(second.at[i]);
    const A c = cos[i], s = a.inverse ? -sin[i] : sin[i];
    y1.at[i] = static_cast<T>(x1 * c - x2 * s);
    y2.at[i] = static_cast<T>(x2 * c + x1 * s);
  }
  *reinterpret_cast<Vector<T, N>*>(to) = y1;
  *reinterpret_cast<Vector<T, N>*>(to + half) = y2;
}

template <typename T, int N>
void Launch(const RopeArguments& a, cudaStream_t stream) {
  const int64_t threads = a.batch * a.sequence * a.heads * (a.dim / 2 / N);
  RopeKernel<T, N><<<NumBlocks(threads, kThreads), kThreads, 0, stream>>>(a);
  CheckLaunch("rope");
}

}  // namespace

void Rope(const RopeArguments& a, Stream stream) {
  if (a.batch * a.sequence * a.heads * a.dim == 0) return;
  Dispatch(a.element, [&]<typename T>(T) {
    constexpr int64_t kSize = kVectorSize<T>;
    const bool vectors = (a.dim / 2) % kSize == 0 && a.batch_stride % kSize == 0 && a.token_stride % kSize == 0 &&
                         a.head_stride % kSize == 0 && IsAligned(a.x) && IsAligned(a.y);
    (vectors ? Launch<T, kVectorSize<T>> : Launch<T, 1>)(a, stream);
  });
}

}  // namespace titan::cuda
