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

template <__nv_fp8_interpretation_t kKind>
__device__ float ScaleFor(float largest) {
  constexpr float kLargestFloat8 = kKind == __NV_E4M3 ? 448.0f : 57344.0f;
  return largest > 0 ? fminf(kLargestFloat8 / largest, 3.0e38f) : 1.0f;
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

// A tile of bytes on its way to the transposed matrix goes through shared memory as words of 4 bytes, one for 4 rows of
// a column; the odd width keeps the 32 threads of a warp, 4 groups of columns by 8 of rows, on 32 different banks.
struct Tile {
  static constexpr int kGroups = kTile / kThreadRows;  // of 4 rows
  static constexpr int kParts = kTile / kThreadColumns * kGroups / kThreads;
  uint32_t words[kTile][kGroups + 1];

  // A thread's part of the tile: kThreadRows by kThreadColumns elements.
  struct Part {
    int column, group;  // in the tile
    int64_t at;         // of the part's first element in the matrix
    int64_t row, column_of_matrix;
    bool is_inside;  // of the matrix
  };
  static __device__ int64_t FirstRow() { return static_cast<int64_t>(blockIdx.y) * kTile; }
  static __device__ int64_t FirstColumn() { return static_cast<int64_t>(blockIdx.x) * kTile; }

  // Calls visit(part) for each part of this thread: of 32 neighbours 4 are side by side, 8 one above the other.
  template <typename Visit>
  static __device__ void ForEachPart(int64_t rows, int64_t columns, const Visit& visit) {
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int warp = threadIdx.x / kWarp + i * (kThreads / kWarp), lane = threadIdx.x % kWarp;
      Part part;
      part.column = (warp % 4 * 4 + lane % 4) * kThreadColumns;
      part.group = warp / 4 * 8 + lane / 4;
      part.row = FirstRow() + part.group * kThreadRows;
      part.column_of_matrix = FirstColumn() + part.column;
      part.at = part.row * columns + part.column_of_matrix;
      part.is_inside = part.row < rows && part.column_of_matrix < columns;
      visit(part);
    }
  }

  __device__ void Put(const Part& part, const uint8_t (&bytes)[kThreadRows][kThreadColumns]) {
#pragma unroll
    for (int i = 0; i < kThreadColumns; ++i) {
      words[part.column + i][part.group] = bytes[0][i] | bytes[1][i] << 8 | bytes[2][i] << 16 | bytes[3][i] << 24;
    }
  }

  // After __syncthreads.
  __device__ void Write(int64_t rows, int64_t columns, uint8_t* transposed) const {
    constexpr int kChunk = 16;  // bytes
    for (int i = threadIdx.x; i < kTile * kTile / kChunk; i += kThreads) {
      const int column = i / (kTile / kChunk), chunk = i % (kTile / kChunk);
      const int64_t row = FirstRow() + chunk * kChunk, target = FirstColumn() + column;
      if (target >= columns || row >= rows) continue;
      Vector<uint32_t, 4> out;
#pragma unroll
      for (int w = 0; w < 4; ++w) out.at[w] = words[column][chunk * 4 + w];
      *reinterpret_cast<Vector<uint32_t, 4>*>(transposed + target * rows + row) = out;
    }
  }
};

template <typename T, __nv_fp8_interpretation_t kKind>
__global__ void __launch_bounds__(kThreads)
    QuantizeKernel(const T* x, int64_t rows, int64_t columns, const float* largest, uint8_t* values,
                   uint8_t* transposed, float* inverse_scale) {
  __shared__ Tile tile;
  const float scale = ScaleFor<kKind>(*largest);
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *inverse_scale = 1.0f / scale;
  Tile::ForEachPart(rows, columns, [&](const Tile::Part& part) {
    if (!part.is_inside) return;
    uint8_t bytes[kThreadRows][kThreadColumns];
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      const int64_t at = part.at + r * columns;
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
    tile.Put(part, bytes);
  });
  if (transposed == nullptr) return;
  __syncthreads();
  tile.Write(rows, columns, transposed);
}

// Each thread has 4 rows by 8 columns; of a warp 4 threads share rows and 8 share columns.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    LargestOfRowsKernel(const T* x, int64_t rows, int64_t columns, float* largest_of_rows, float* largest_of_columns) {
  __shared__ unsigned of_rows[kTile], of_columns[kTile];
  if (threadIdx.x < kTile) of_rows[threadIdx.x] = of_columns[threadIdx.x] = 0;
  __syncthreads();
  Tile::ForEachPart(rows, columns, [&](const Tile::Part& part) {
    float of_column[kThreadColumns] = {};
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      float loaded[kThreadColumns] = {};
      if (part.is_inside) LoadRow<T>(x + part.at + r * columns, loaded);
      float of_row = 0;
#pragma unroll
      for (int i = 0; i < kThreadColumns; ++i) {
        of_row = fmaxf(of_row, fabsf(loaded[i]));
        of_column[i] = fmaxf(of_column[i], fabsf(loaded[i]));
      }
      for (int distance = 1; distance < 4; distance *= 2) {
        of_row = fmaxf(of_row, __shfl_xor_sync(~0u, of_row, distance));
      }
      if (threadIdx.x % 4 == 0) atomicMax(&of_rows[part.group * kThreadRows + r], __float_as_uint(of_row));
    }
#pragma unroll
    for (int i = 0; i < kThreadColumns; ++i) {
      for (int distance = 4; distance < kWarp; distance *= 2) {
        of_column[i] = fmaxf(of_column[i], __shfl_xor_sync(~0u, of_column[i], distance));
      }
      if (threadIdx.x % kWarp < 4) atomicMax(&of_columns[part.column + i], __float_as_uint(of_column[i]));
    }
  });
  __syncthreads();
  if (threadIdx.x >= kTile) return;
  const int64_t row = Tile::FirstRow() + threadIdx.x, column = Tile::FirstColumn() + threadIdx.x;
  if (row < rows) atomicMax(reinterpret_cast<unsigned*>(largest_of_rows) + row, of_rows[threadIdx.x]);
  if (column < columns) atomicMax(reinterpret_cast<unsigned*>(largest_of_columns) + column, of_columns[threadIdx.x]);
}

// The largest power of two that takes `largest` to no more than 448.
__device__ float PowerOfTwoScaleFor(float largest) {
  if (!(largest > 0)) return 1.0f;
  int exponent = 0;
  frexpf(fminf(448.0f / largest, 1.0e38f), &exponent);
  return ldexpf(1.0f, exponent - 1);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) QuantizeRowsKernel(QuantizeRowsArguments a) {
  __shared__ Tile tile;
  const float* const largest_of_columns = a.largest + a.rows;
  if (threadIdx.x < kTile) {
    const int64_t row = Tile::FirstRow() + threadIdx.x, column = Tile::FirstColumn() + threadIdx.x;
    if (blockIdx.x == 0 && a.inverse_scale != nullptr && row < a.rows) {
      a.inverse_scale[row] = 1.0f / PowerOfTwoScaleFor(a.largest[row]);
    }
    if (blockIdx.y == 0 && a.transposed_inverse_scale != nullptr && column < a.columns) {
      a.transposed_inverse_scale[column] = 1.0f / PowerOfTwoScaleFor(largest_of_columns[column]);
    }
  }
  Tile::ForEachPart(a.rows, a.columns, [&](const Tile::Part& part) {
    if (!part.is_inside) return;
    float column_scale[kThreadColumns];
#pragma unroll
    for (int i = 0; i < kThreadColumns; ++i) {
      column_scale[i] = PowerOfTwoScaleFor(largest_of_columns[part.column_of_matrix + i]);
    }
    uint8_t bytes[kThreadRows][kThreadColumns];
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      const int64_t at = part.at + r * a.columns;
      float loaded[kThreadColumns];
      LoadRow<T>(static_cast<const T*>(a.x) + at, loaded);
      const float row_scale = PowerOfTwoScaleFor(a.largest[part.row + r]);
      Vector<uint16_t, kThreadColumns / 2> packed;
#pragma unroll
      for (int i = 0; i < kThreadColumns / 2; ++i) {
        packed.at[i] = Pair<__NV_E4M3>(loaded[2 * i] * row_scale, loaded[2 * i + 1] * row_scale);
        const uint16_t other =
            Pair<__NV_E4M3>(loaded[2 * i] * column_scale[2 * i], loaded[2 * i + 1] * column_scale[2 * i + 1]);
        bytes[r][2 * i] = static_cast<uint8_t>(other);
        bytes[r][2 * i + 1] = static_cast<uint8_t>(other >> 8);
      }
      if (a.values != nullptr) {
        *reinterpret_cast<Vector<uint16_t, kThreadColumns / 2>*>(static_cast<uint8_t*>(a.values) + at) = packed;
      }
    }
    tile.Put(part, bytes);
  });
  if (a.transposed == nullptr) return;
  __syncthreads();
  tile.Write(a.rows, a.columns, static_cast<uint8_t*>(a.transposed));
}

__global__ void __launch_bounds__(kThreads)
    TransposeKernel(const uint8_t* values, int64_t rows, int64_t columns, uint8_t* transposed) {
  __shared__ Tile tile;
  Tile::ForEachPart(rows, columns, [&](const Tile::Part& part) {
    if (!part.is_inside) return;
    uint8_t bytes[kThreadRows][kThreadColumns];
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      const auto vector = *reinterpret_cast<const Vector<uint8_t, kThreadColumns>*>(values + part.at + r * columns);
#pragma unroll
      for (int i = 0; i < kThreadColumns; ++i) bytes[r][i] = vector.at[i];
    }
    tile.Put(part, bytes);
  });
  __syncthreads();
  tile.Write(rows, columns, transposed);
}

// A thread's part is 16 values.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    QuantizeFlatKernel(const T* x, int64_t parts, const float* largest, Vector<uint16_t, 8>* values) {
  const int64_t part = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (part >= parts) return;
  const float scale = ScaleFor<__NV_E4M3>(*largest);
  Vector<uint16_t, 8> packed;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float loaded[kThreadColumns];
    LoadRow<T>(x + part * 16 + half * kThreadColumns, loaded);
#pragma unroll
    for (int i = 0; i < kThreadColumns / 2; ++i) {
      packed.at[half * 4 + i] = Pair<__NV_E4M3>(loaded[2 * i] * scale, loaded[2 * i + 1] * scale);
    }
  }
  values[part] = packed;
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

void AddLargestMagnitude(Element element, const void* x, int64_t size, float* largest, Stream stream) {
  if (size == 0) return;
  DispatchInput(element, [&]<typename T>(T) { Largest<T>(x, size, largest, stream); });
}

void Quantize(const QuantizeArguments& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return;
  DispatchInput(a.element, [&]<typename T>(T) {
    a.kind == Float8Kind::kE4m3 ? Launch<T, __NV_E4M3>(a, stream) : Launch<T, __NV_E5M2>(a, stream);
  });
}

void QuantizeRows(const QuantizeRowsArguments& a, Stream stream) {
  if (a.rows == 0 || a.columns == 0) return;
  const dim3 blocks(NumBlocks(a.columns, kTile), NumBlocks(a.rows, kTile));
  if (cudaMemsetAsync(a.largest, 0, (a.rows + a.columns) * sizeof(float), stream) != cudaSuccess) {
    CheckLaunch("float8 memset");
  }
  DispatchInput(a.element, [&]<typename T>(T) {
    LargestOfRowsKernel<T>
        <<<blocks, kThreads, 0, stream>>>(static_cast<const T*>(a.x), a.rows, a.columns, a.largest, a.largest + a.rows);
    CheckLaunch("float8 largest magnitudes of rows");
    QuantizeRowsKernel<T><<<blocks, kThreads, 0, stream>>>(a);
    CheckLaunch("float8 quantize rows");
  });
}

void QuantizeFlat(Element element, const void* x, int64_t size, const float* largest, void* values, Stream stream) {
  if (size == 0) return;
  const int64_t parts = size / 16;
  DispatchInput(element, [&]<typename T>(T) {
    QuantizeFlatKernel<T><<<NumBlocks(parts, kThreads), kThreads, 0, stream>>>(
        static_cast<const T*>(x), parts, largest, static_cast<Vector<uint16_t, 8>*>(values));
  });
  CheckLaunch("float8 quantize");
}

void TransposeBytes(const void* values, int64_t rows, int64_t columns, void* transposed, Stream stream) {
  if (rows == 0 || columns == 0) return;
  const dim3 blocks(NumBlocks(columns, kTile), NumBlocks(rows, kTile));
  TransposeKernel<<<blocks, kThreads, 0, stream>>>(static_cast<const uint8_t*>(values), rows, columns,
                                                   static_cast<uint8_t*>(transposed));
  CheckLaunch("float8 transpose");
}

}  // namespace titan::cuda
