// Float8 matrices with one scale each (tensorwise dynamic scaling; Micikevicius et al. 2022, arXiv:2209.05433) or one
// for each row (rowwise), and their products.
//
//   const Float8Matrix a = QuantizeFloat8(x, Float8Format::kE4m3, {.values = true});       // (M, K)
//   const Float8Matrix b = QuantizeFloat8(weight, Float8Format::kE4m3, {.values = true});  // (N, K)
//   at::Tensor y = Float8Product(a.values, a.inverse_scale, b.values, b.inverse_scale, {});  // x weight^T, bf16
//
// On a GPU that has them (sm_89 and later) products run on float8 tensor cores; on the CPU the same values are computed
// with in fp32.

#ifndef TITAN_KERNELS_FLOAT8_H_
#define TITAN_KERNELS_FLOAT8_H_

#include <ATen/core/Tensor.h>

namespace titan {

enum class Float8Format {
  kE4m3,  // largest value 448: weights and activations
  kE5m2,  // largest value 57344: gradients
};

enum class Float8Scaling {
  kTensor,  // the largest magnitude becomes the format's largest value
  // The largest magnitude of each row of a layout comes within a factor of two of it: the scales are powers of two, as
  // torchao's rowwise recipes have them, so that they round nothing.
  kRows,
};

struct Float8Matrix {
  at::Tensor values = {};                    // (rows, columns) float8, if wanted
  at::Tensor transposed = {};                // (columns, rows) float8, if wanted
  at::Tensor inverse_scale = {};             // fp32, scalar or (rows, 1): x is about values * inverse_scale
  at::Tensor transposed_inverse_scale = {};  // of `transposed`: the same scalar, or (columns, 1)
};

// Of both, a product wants rows along what is summed over.
struct Float8Layouts {
  bool values = false, transposed = false;
};

// x (rows, columns) fp32 or bf16, both multiples of 16. Nothing saturates. The scale of zeros is 1. Nothing waits for
// the device.
Float8Matrix QuantizeFloat8(const at::Tensor& x, Float8Format format, const Float8Layouts& layouts,
                            Float8Scaling scaling = Float8Scaling::kTensor);

// The same in steps, for a matrix that lies in pieces, here and on other ranks:
//
//   AddLargestMagnitude(largest, piece);         // of every piece; the largest of all ranks is the matrix's
//   QuantizeFloat8Into(values, piece, largest);  // of every piece
//   TransposeFloat8(matrix);                     // where that layout is wanted
//
// largest = max(largest, max |x|): scalar fp32. x fp32 or bf16, contiguous, a multiple of 16 elements.
void AddLargestMagnitude(const at::Tensor& largest, const at::Tensor& x);
// values: e4m3, of x's shape.
void QuantizeFloat8Into(const at::Tensor& values, const at::Tensor& x, const at::Tensor& largest);
// Float8Matrix::inverse_scale of matrices in e4m3 with these largest magnitudes; any shape, fp32.
at::Tensor InverseFloat8Scale(const at::Tensor& largest);
// (rows, columns) float8 -> (columns, rows), both multiples of 16.
at::Tensor TransposeFloat8(const at::Tensor& values);

struct Float8ProductOptions {
  at::ScalarType dtype = at::kBFloat16;  // of the result
  // Sums inside the tensor cores, with fewer bits than fp32: for forward.
  bool fast_accumulation = false;
};

// a b^T inverse_scale_a inverse_scale_b. a (M, K), b (N, K), contiguous, of which at least one is e4m3 -> (M, N). The
// inverse scales are scalars, or (M, 1) and (N, 1).
at::Tensor Float8Product(const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                         const at::Tensor& inverse_scale_b, const Float8ProductOptions& options);

// The same into `out` (M, N), bf16 or fp32, or added to it.
void Float8ProductInto(at::Tensor& out, const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                       const at::Tensor& inverse_scale_b, bool adds = false);

}  // namespace titan

#endif  // TITAN_KERNELS_FLOAT8_H_
