#include <cuda_fp8.h>

#include <algorithm>

#include "kernels/cuda_device.cuh"
#include "kernels/float8_cuda.h"

namespace titan::cuda {
namespace {

constexpr int kThreads = 256;
// Vectors that a thread of the search for the largest value has under way at once.
constexpr int kUnroll = 4;
// A block's part of the matrix, and a thread's part of that: kTile columns in vectors of 8, by 4 rows.
constexpr int kTile = 128, kThreadColumns = 8, kThreadRows = 4;

template <typename T, int N>
__device__ float LargestOf(const Vector<T, N>& v) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) largest = fmaxf(largest, fabsf(static_cast<float>(v.at[i])));
  return largest;
}

// The largest of all threads by atomicMax on the bits, which for values that are not negative is the order of the
// values: the result does not depend on the order of arrival.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    LargestKernel(const Vector<T, kVectorSize<T>>* x, int64_t vectors, float* largest) {
  constexpr int N = kVectorSize<T>;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  float mine = 0;
  int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (; at + (kUnroll - 1) * stride < vectors; at += kUnroll * stride) {
    Vector<T, N> v[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) v[i] = x[at + i * stride];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) mine = fmaxf(mine, LargestOf<T, N>(v[i]));
  }
  for (; at < vectors; at += stride) mine = fmaxf(mine, LargestOf<T, N>(x[at]));
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    mine = fmaxf(mine, __shfl_xor_sync(~0u, mine, distance));
  }
  if (threadIdx.x % kWarp == 0) atomicMax(reinterpret_cast<unsigned*>(largest), __float_as_uint(mine));
}

template <__nv_fp8_interpretation_t kKind>
__device__ uint16_t Pair(float low, float high) {
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, kKind);
}

// 8 values of one row.
template <typename T>
__device__ void LoadRow(const T* from, float* values) {
  constexpr int N = kVectorSize<T>;
#pragma unroll
  for (int v = 0; v < kThreadColumns / N; ++v) {
    const auto vector = reinterpret_cast<const Vector<T, N>*>(from)[v];
#pragma unroll
    for (int i = 0; i < N; ++i) values[v * N + i] = static_cast<float>(vector.at[i]);
  }
}

// The transposed tile goes through shared memory as words of 4 bytes, one for 4 rows of a column; the odd width keeps
// the 32 threads of a warp, 4 groups of columns by 8 of rows, on 32 different banks.
template <typename T, __nv_fp8_interpretation_t kKind>
__global__ void __launch_bounds__(kThreads)
    QuantizeKernel(const T* x, int64_t rows, int64_t columns, const float* largest, uint8_t* values,
                   uint8_t* transposed, float* inverse_scale) {
  constexpr int kGroups = kTile / kThreadRows;  // of 4 rows
  __shared__ uint32_t words[kTile][kGroups + 1];
  constexpr float kLargestFloat8 = kKind == __NV_E4M3 ? 448.0f : 57344.0f;
  const float seen = *largest;
  const float scale = seen > 0 ? fminf(kLargestFloat8 / seen, 3.0e38f) : 1.0f;
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *inverse_scale = 1.0f / scale;
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kTile,
                first_column = static_cast<int64_t>(blockIdx.x) * kTile;
  constexpr int kParts = kTile / kThreadColumns * kGroups / kThreads;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    // Of 32 neighbours: 4 side by side, 8 one above the other.
    const int warp = threadIdx.x / kWarp + part * (kThreads / kWarp), lane = threadIdx.x % kWarp;
    const int column = (warp % 4 * 4 + lane % 4) * kThreadColumns, group = warp / 4 * 8 + lane / 4;
    const int64_t row = first_row + group * kThreadRows;
    if (first_column + column >= columns || row >= rows) continue;
    uint8_t bytes[kThreadRows][kThreadColumns];
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      const int64_t at = (row + r) * columns + first_column + column;
      float loaded[kThreadColumns];
      LoadRow<T>(x + at, loaded);
      Vector<uint16_t, kThreadColumns / 2> packed;
#pragma unroll
      for (int i = 0; i < kThreadColumns / 2; ++i) {
        packed.at[i] = Pair<kKind>(loaded[2 * i] * scale, loaded[2 * i + 1] * scale);
        bytes[r][2 * i] = static_cast<uint8_t>(packed.at[i]);
        bytes[r][2 * i + 1] = static_cast<uint8_t>(packed.at[i] >> 8);
      }
      if (values != nullptr) *reinterpret_cast<Vector<uint16_t, kThreadColumns / 2>*>(values + at) = packed;
    }
#pragma unroll
    for (int i = 0; i < kThreadColumns; ++i) {
      words[column + i][group] = bytes[0][i] | bytes[1][i] << 8 | bytes[2][i] << 16 | bytes[3][i] << 24;
    }
  }
  if (transposed == nullptr) return;
  __syncthreads();
  constexpr int kChunk = 16;  // bytes
  for (int i = threadIdx.x; i < kTile * kTile / kChunk; i += kThreads) {
    const int column = i / (kTile / kChunk), chunk = i % (kTile / kChunk);
    const int64_t row = first_row + chunk * kChunk;
    if (first_column + column >= columns || row >= rows) continue;
    Vector<uint32_t, 4> out;
#pragma unroll
    for (int w = 0; w < 4; ++w) out.at[w] = words[column][chunk * 4 + w];
    *reinterpret_cast<Vector<uint32_t, 4>*>(transposed + (first_column + column) * rows + row) = out;
  }
}

template <typename T>
void Largest(const void* x, int64_t size, float* largest, cudaStream_t stream) {
  constexpr int kMaxBlocks = 1024;
  const int64_t vectors = size / kVectorSize<T>;
  const unsigned blocks = std::min<unsigned>(NumBlocks(vectors, kThreads * kUnroll), kMaxBlocks);
  LargestKernel<T><<<blocks, kThreads, 0, stream>>>(static_cast<const Vector<T, kVectorSize<T>>*>(x), vectors, largest);
  CheckLaunch("float8 largest magnitude");
}

template <typename T, __nv_fp8_interpretation_t kKind>
void Launch(const QuantizeArguments& a, cudaStream_t stream) {
  const dim3 blocks(NumBlocks(a.columns, kTile), NumBlocks(a.rows, kTile));
  QuantizeKernel<T, kKind><<<blocks, kThreads, 0, stream>>>(static_cast<const T*>(a.x), a.rows, a.columns, a.largest,
                                                            static_cast<uint8_t*>(a.values),
                                                            static_cast<uint8_t*>(a.transposed), a.inverse_scale);
  CheckLaunch("float8 quantize");
}

template <typename F>
void DispatchInput(Element element, const F& function) {
  if (element == Element::kDouble) throw std::runtime_error("float8: fp64 has no kernel");
  element == Element::kFloat ? function(float{}) : function(__nv_bfloat16{});
}

}  // namespace

void LargestMagnitude(Element element, const void* x, int64_t size, float* largest, Stream stream) {
  if (cudaMemsetAsync(largest, 0, sizeof(float), stream) != cudaSuccess) CheckLaunch("float8 memset");
  if (size == 0) return;
  DispatchInput(element, [&]<typename T>(T) { Largest<T>(x, size, largest, stream); });
}

void Quantize(const QuantizeArguments& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return;
  DispatchInput(a.element, [&]<typename T>(T) {
    a.kind == Float8Kind::kE4m3 ? Launch<T, __NV_E4M3>(a, stream) : Launch<T, __NV_E5M2>(a, stream);
  });
}

}  // namespace titan::cuda
