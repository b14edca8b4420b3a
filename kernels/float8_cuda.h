// The CUDA kernels behind kernels/float8.h. Matrices are row-major and contiguous; rows and columns are multiples
// of 16.

#ifndef TITAN_KERNELS_FLOAT8_CUDA_H_
#define TITAN_KERNELS_FLOAT8_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"

namespace titan::cuda {

enum class Float8Kind { kE4m3, kE5m2 };

// largest = max |x| of `size` fp32 or bf16 values; NaN does not count. `largest` is fp32, on the device.
void LargestMagnitude(Element element, const void* x, int64_t size, float* largest, Stream stream);

struct QuantizeArguments {
  Element element;  // of x: fp32 or bf16
  Float8Kind kind;
  int64_t rows, columns;
  const void* x;         // (rows, columns)
  const float* largest;  // what LargestMagnitude gave
  void* values;          // (rows, columns) float8, or null
  void* transposed;      // (columns, rows) float8, or null
  float* inverse_scale;  // 1 / scale, where scale = largest float8 / largest, and 1 for zeros
};
// round(x * scale) in both layouts in one pass over x.
void Quantize(const QuantizeArguments& arguments, Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_FLOAT8_CUDA_H_
