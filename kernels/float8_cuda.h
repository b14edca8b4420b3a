// The CUDA kernels behind kernels/float8.h. Matrices are row-major and contiguous; rows and columns are multiples
// of 16.

#ifndef TITAN_KERNELS_FLOAT8_CUDA_H_
#define TITAN_KERNELS_FLOAT8_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"

namespace titan::cuda {

enum class Float8Kind { kE4m3, kE5m2 };

// largest = max(largest, max |x|) of `size` fp32 or bf16 values; NaN does not count. `largest` is fp32, on the device,
// and not negative.
void AddLargestMagnitude(Element element, const void* x, int64_t size, float* largest, Stream stream);

struct QuantizeArguments {
  Element element;  // of x: fp32 or bf16
  Float8Kind kind;
  int64_t rows, columns;
  const void* x;         // (rows, columns)
  const float* largest;  // of all |x|
  void* values;          // (rows, columns) float8, or null
  void* transposed;      // (columns, rows) float8, or null
  float* inverse_scale;  // 1 / scale, where scale = largest float8 / largest, and 1 for zeros
};
// round(x * scale) in both layouts in one pass over x.
void Quantize(const QuantizeArguments& arguments, Stream stream);

// The same in e4m3 with a scale, a power of two, for each row of each layout.
struct QuantizeRowsArguments {
  Element element;
  int64_t rows, columns;
  const void* x;
  float* largest;  // (rows + columns): room for the largest magnitudes of rows, then of columns
  void *values, *transposed;
  float *inverse_scale, *transposed_inverse_scale;  // (rows), (columns); null where the layout is
};
void QuantizeRows(const QuantizeRowsArguments& arguments, Stream stream);

// round(x * scale) in e4m3 of `size` values, a multiple of 16.
void QuantizeFlat(Element element, const void* x, int64_t size, const float* largest, void* values, Stream stream);

// values (rows, columns) bytes -> transposed (columns, rows).
void TransposeBytes(const void* values, int64_t rows, int64_t columns, void* transposed, Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_FLOAT8_CUDA_H_
