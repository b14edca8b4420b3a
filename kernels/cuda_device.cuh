// Shared by the .cu files: element types and their accumulators, loads of 16 bytes, sums over a block, launch checks.

#ifndef TITAN_KERNELS_CUDA_DEVICE_CUH_
#define TITAN_KERNELS_CUDA_DEVICE_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels/cuda_types.h"

namespace titan::cuda {

constexpr int kWarp = 32;

template <typename T>
struct AccumulatorOf {
  using Type = float;
};
template <>
struct AccumulatorOf<double> {
  using Type = double;
};
template <typename T>
using Accumulator = typename AccumulatorOf<T>::Type;

// N elements that are loaded and stored by one instruction.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

// Elements in 16 bytes, the most that a thread moves at once.
template <typename T>
constexpr int kVectorSize = 16 / static_cast<int>(sizeof(T));

inline bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Sums over all threads of a block; every thread gets it. `shared` has room for a value per warp, and must not be
// written again before another barrier. The order of the additions depends on the block's size only.
template <typename A>
__device__ A BlockSumOf(A value, A* shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  A sum = 0;
  for (int i = 0; i < warps; ++i) sum += shared[i];
  return sum;
}

// The same with a barrier at the end.
template <typename A>
__device__ A BlockSum(A value, A* shared) {
  const A sum = BlockSumOf(value, shared);
  __syncthreads();
  return sum;
}

inline void CheckLaunch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("launch of the CUDA kernel ") + kernel + ": " + cudaGetErrorString(error));
}

// Calls `function` with a value of the element type, of which only the type counts.
template <typename F>
void Dispatch(Element element, const F& function) {
  switch (element) {
    case Element::kFloat:
      return function(float{});
    case Element::kDouble:
      return function(double{});
    case Element::kBFloat16:
      return function(__nv_bfloat16{});
  }
}

// Blocks of `threads` for `count` items.
inline unsigned NumBlocks(int64_t count, int threads) { return static_cast<unsigned>((count + threads - 1) / threads); }

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_CUDA_DEVICE_CUH_
