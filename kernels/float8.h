// Float8 matrices with one scale each (tensorwise dynamic scaling; Micikevicius et al. 2022, arXiv:2209.05433), and
// their products.
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

struct Float8Matrix {
  at::Tensor values = {};         // (rows, columns) float8, if wanted
  at::Tensor transposed = {};     // (columns, rows) float8, if wanted
  at::Tensor inverse_scale = {};  // scalar fp32: x is about values * inverse_scale
};

// Of both, a product wants rows along what is summed over.
struct Float8Layouts {
  bool values = false, transposed = false;
};

// x (rows, columns) fp32 or bf16, both multiples of 16. The scale maps the largest magnitude of x to the format's
// largest value, so that nothing saturates; it is 1 for zeros. Nothing waits for the device.
Float8Matrix QuantizeFloat8(const at::Tensor& x, Float8Format format, const Float8Layouts& layouts);

struct Float8ProductOptions {
  at::ScalarType dtype = at::kBFloat16;  // of the result
  // Sums inside the tensor cores, with fewer bits than fp32: for forward.
  bool fast_accumulation = false;
};

// a b^T inverse_scale_a inverse_scale_b. a (M, K), b (N, K), contiguous, of which at least one is e4m3 -> (M, N).
at::Tensor Float8Product(const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                         const at::Tensor& inverse_scale_b, const Float8ProductOptions& options);

// The same into `out` (M, N), bf16 or fp32.
void Float8ProductInto(at::Tensor& out, const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                       const at::Tensor& inverse_scale_b);

}  // namespace titan

#endif  // TITAN_KERNELS_FLOAT8_H_
