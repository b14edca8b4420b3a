#include "kernels/cuda_device.cuh"
#include "titan/model/init_cuda.h"

namespace titan::cuda {
namespace {

constexpr int kThreads = 256;

// A Philox counter, hence four elements, a thread.
__global__ void __launch_bounds__(kThreads)
    DrawKernel(uint64_t seed, uint64_t name, Scaling scaling, int64_t size, float* out) {
  const int64_t counter = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, begin = 4 * counter;
  if (begin >= size) return;
  uint32_t words[4];
  init_internal::DrawWords(seed, name, counter, words[0], words[1], words[2], words[3]);
  Vector<float, 4> values;
#pragma unroll
  for (int i = 0; i < 4; ++i) values.at[i] = init_internal::ValueOf(words[i], scaling);
  if (begin + 4 <= size) {
    *reinterpret_cast<Vector<float, 4>*>(out + begin) = values;
    return;
  }
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    if (begin + i < size) out[begin + i] = values.at[i];
  }
}

}  // namespace

void DrawValues(uint64_t seed, uint64_t name, const Scaling& scaling, int64_t size, float* out, Stream stream) {
  if (size == 0) return;
  DrawKernel<<<NumBlocks(size, 4 * kThreads), kThreads, 0, stream>>>(seed, name, scaling, size, out);
  CheckLaunch("initial values");
}

}  // namespace titan::cuda
