#include "kernels/float8.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/frexp.h>
#include <ATen/ops/ldexp.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <tuple>

#include "kernels/cuda.h"
#include "kernels/float8_cuda.h"
#include "kernels/float8_matmul_cuda.h"

namespace titan {
namespace {

constexpr int64_t kMultiple = 16;  // of both extents: what the tensor cores want

at::ScalarType DtypeOf(Float8Format format) {
  return format == Float8Format::kE4m3 ? at::kFloat8_e4m3fn : at::kFloat8_e5m2;
}

double LargestOf(Float8Format format) { return format == Float8Format::kE4m3 ? 448.0 : 57344.0; }

// fp32, of any shape; 1 for zeros.
at::Tensor ScaleFor(const at::Tensor& largest, Float8Format format) {
  return at::where(largest.gt(0), (LargestOf(format) / largest).clamp_max(3e38), 1.0).to(at::kFloat);
}

at::Tensor Rounded(const at::Tensor& x, const at::Tensor& scale, Float8Format format) {
  return (x.to(at::kFloat) * scale).clamp(-LargestOf(format), LargestOf(format)).to(DtypeOf(format));
}

Float8Matrix QuantizeComposite(const at::Tensor& x, Float8Format format, const Float8Layouts& layouts) {
  const at::Tensor scale = ScaleFor(x.abs().max().to(at::kFloat), format);
  const at::Tensor values = Rounded(x, scale, format);
  Float8Matrix result;
  result.inverse_scale = result.transposed_inverse_scale = scale.reciprocal();
  if (layouts.values) result.values = values;
  if (layouts.transposed) result.transposed = values.t().contiguous();
  return result;
}

// The largest powers of two that take these to no more than 448; fp32, of any shape.
at::Tensor PowersOfTwoFor(const at::Tensor& largest) {
  const at::Tensor ratio = at::where(largest.gt(0), (LargestOf(Float8Format::kE4m3) / largest).clamp_max(1e38), 1.0);
  const at::Tensor exponent = std::get<1>(at::frexp(ratio.to(at::kFloat)));
  return at::ldexp(at::ones_like(ratio, at::kFloat), exponent - 1).to(at::kFloat);
}

Float8Matrix QuantizeRowsComposite(const at::Tensor& x, const Float8Layouts& layouts) {
  constexpr Float8Format kFormat = Float8Format::kE4m3;
  const at::Tensor magnitudes = x.abs().to(at::kFloat);
  Float8Matrix result;
  if (layouts.values) {
    const at::Tensor scale = PowersOfTwoFor(magnitudes.amax({1}, /*keepdim=*/true));  // (rows, 1)
    result.values = Rounded(x, scale, kFormat);
    result.inverse_scale = scale.reciprocal();
  }
  if (layouts.transposed) {
    const at::Tensor scale = PowersOfTwoFor(magnitudes.amax({0}, /*keepdim=*/true));  // (1, columns)
    result.transposed = Rounded(x, scale, kFormat).t().contiguous();
    result.transposed_inverse_scale = scale.reciprocal().t();
  }
  return result;
}

Float8Matrix QuantizeCuda(const at::Tensor& x, Float8Format format, const Float8Layouts& layouts) {
  const at::TensorOptions bytes = x.options().dtype(DtypeOf(format)), fp32 = x.options().dtype(at::kFloat);
  Float8Matrix result;
  result.inverse_scale = result.transposed_inverse_scale = at::empty({}, fp32);
  if (layouts.values) result.values = at::empty({x.size(0), x.size(1)}, bytes);
  if (layouts.transposed) result.transposed = at::empty({x.size(1), x.size(0)}, bytes);
  const at::Tensor largest = at::zeros({}, fp32);
  if constexpr (cuda::kHasKernels) {
    const cuda::Stream stream = cuda::CurrentStream(x);
    const auto pointer = [](const at::Tensor& t) { return t.defined() ? t.mutable_data_ptr() : nullptr; };
    cuda::AddLargestMagnitude(cuda::ElementOf(x), x.const_data_ptr(), x.numel(), largest.mutable_data_ptr<float>(),
                              stream);
    cuda::Quantize({.element = cuda::ElementOf(x),
                    .kind = format == Float8Format::kE4m3 ? cuda::Float8Kind::kE4m3 : cuda::Float8Kind::kE5m2,
                    .rows = x.size(0),
                    .columns = x.size(1),
                    .x = x.const_data_ptr(),
                    .largest = largest.const_data_ptr<float>(),
                    .values = pointer(result.values),
                    .transposed = pointer(result.transposed),
                    .inverse_scale = result.inverse_scale.mutable_data_ptr<float>()},
                   stream);
  }
  return result;
}

Float8Matrix QuantizeRowsCuda(const at::Tensor& x, const Float8Layouts& layouts) {
  const at::TensorOptions bytes = x.options().dtype(at::kFloat8_e4m3fn), fp32 = x.options().dtype(at::kFloat);
  const int64_t rows = x.size(0), columns = x.size(1);
  Float8Matrix result;
  if (layouts.values) {
    result.values = at::empty({rows, columns}, bytes);
    result.inverse_scale = at::empty({rows, 1}, fp32);
  }
  if (layouts.transposed) {
    result.transposed = at::empty({columns, rows}, bytes);
    result.transposed_inverse_scale = at::empty({columns, 1}, fp32);
  }
  const at::Tensor largest = at::empty({rows + columns}, fp32);
  if constexpr (cuda::kHasKernels) {
    const auto pointer = [](const at::Tensor& t) { return t.defined() ? t.mutable_data_ptr() : nullptr; };
    const auto floats = [&](const at::Tensor& t) { return static_cast<float*>(pointer(t)); };
    cuda::QuantizeRows({.element = cuda::ElementOf(x),
                        .rows = rows,
                        .columns = columns,
                        .x = x.const_data_ptr(),
                        .largest = floats(largest),
                        .values = pointer(result.values),
                        .transposed = pointer(result.transposed),
                        .inverse_scale = floats(result.inverse_scale),
                        .transposed_inverse_scale = floats(result.transposed_inverse_scale)},
                       cuda::CurrentStream(x));
  }
  return result;
}

// For devices without float8 units: the same factors, summed in fp32.
at::Tensor ProductComposite(const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                            const at::Tensor& inverse_scale_b) {
  return at::mm(a.to(at::kFloat) * inverse_scale_a, (b.to(at::kFloat) * inverse_scale_b).t());
}

}  // namespace

Float8Matrix QuantizeFloat8(const at::Tensor& x, Float8Format format, const Float8Layouts& layouts,
                            Float8Scaling scaling) {
  TORCH_CHECK(x.dim() == 2 && x.size(0) % kMultiple == 0 && x.size(1) % kMultiple == 0, "float8: ", x.sizes(),
              " is not a matrix whose extents are multiples of ", kMultiple);
  cuda::CheckDevice(x, "float8");
  if (scaling == Float8Scaling::kRows) {
    TORCH_CHECK(format == Float8Format::kE4m3, "float8: rowwise scaling is for e4m3");
    return x.is_cpu() ? QuantizeRowsComposite(x, layouts) : QuantizeRowsCuda(x.contiguous(), layouts);
  }
  return x.is_cpu() ? QuantizeComposite(x, format, layouts) : QuantizeCuda(x.contiguous(), format, layouts);
}

void AddLargestMagnitude(const at::Tensor& largest, const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous() && x.numel() % kMultiple == 0, "float8: expected contiguous multiples of ", kMultiple,
              " elements, got ", x.numel());
  cuda::CheckDevice(x, "float8");
  if (x.is_cpu()) {
    if (x.numel() > 0) largest.copy_(at::maximum(largest, x.abs().max().to(at::kFloat)));
  } else if constexpr (cuda::kHasKernels) {
    cuda::AddLargestMagnitude(cuda::ElementOf(x), x.const_data_ptr(), x.numel(), largest.mutable_data_ptr<float>(),
                              cuda::CurrentStream(x));
  }
}

void QuantizeFloat8Into(const at::Tensor& values, const at::Tensor& x, const at::Tensor& largest) {
  TORCH_CHECK(x.is_contiguous() && values.is_contiguous() && x.numel() == values.numel() &&
                  x.numel() % kMultiple == 0 && values.scalar_type() == at::kFloat8_e4m3fn,
              "float8: expected contiguous multiples of ", kMultiple, " elements, got ", x.numel(), " and ",
              values.numel(), " of ", values.scalar_type());
  cuda::CheckDevice(x, "float8");
  if (x.is_cpu()) {
    values.copy_(Rounded(x, ScaleFor(largest, Float8Format::kE4m3), Float8Format::kE4m3));
  } else if constexpr (cuda::kHasKernels) {
    cuda::QuantizeFlat(cuda::ElementOf(x), x.const_data_ptr(), x.numel(), largest.const_data_ptr<float>(),
                       values.mutable_data_ptr(), cuda::CurrentStream(x));
  }
}

at::Tensor InverseFloat8Scale(const at::Tensor& largest) { return ScaleFor(largest, Float8Format::kE4m3).reciprocal(); }

at::Tensor TransposeFloat8(const at::Tensor& values) {
  TORCH_CHECK(values.dim() == 2 && values.is_contiguous() && values.size(0) % kMultiple == 0 &&
                  values.size(1) % kMultiple == 0 && values.element_size() == 1,
              "float8: ", values.sizes(), " is not a matrix whose extents are multiples of ", kMultiple);
  cuda::CheckDevice(values, "float8");
  if (values.is_cpu()) return values.t().contiguous();
  const at::Tensor transposed = at::empty({values.size(1), values.size(0)}, values.options());
  if constexpr (cuda::kHasKernels) {
    cuda::TransposeBytes(values.const_data_ptr(), values.size(0), values.size(1), transposed.mutable_data_ptr(),
                         cuda::CurrentStream(values));
  }
  return transposed;
}

namespace {

void CudaProduct(const at::Tensor& out, const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                 const at::Tensor& inverse_scale_b, bool adds, bool fast_accumulation) {
  TORCH_CHECK(a.is_contiguous() && b.is_contiguous() && out.is_contiguous() && a.size(1) == b.size(1) &&
                  out.size(0) == a.size(0) && out.size(1) == b.size(0),
              "float8: ", a.sizes(), " times ", b.sizes(), " transposed is no ", out.sizes());
  TORCH_CHECK(out.scalar_type() == at::kFloat || out.scalar_type() == at::kBFloat16,
              "float8: products are fp32 or bf16, not ", out.scalar_type());
  bool is_done = false;
  if constexpr (cuda::kHasKernels) {
    const auto factor = [](const at::Tensor& values, const at::Tensor& inverse_scale) {
      return cuda::Float8Factor{
          .values = values.const_data_ptr(),
          .kind = values.scalar_type() == at::kFloat8_e4m3fn ? cuda::Float8Kind::kE4m3 : cuda::Float8Kind::kE5m2,
          .inverse_scale = inverse_scale.const_data_ptr<float>()};
    };
    is_done = cuda::Float8Matmul({.m = a.size(0),
                                  .n = b.size(0),
                                  .k = a.size(1),
                                  .a = factor(a, inverse_scale_a),
                                  .b = factor(b, inverse_scale_b),
                                  .has_row_scales = inverse_scale_a.numel() > 1,
                                  .out = out.mutable_data_ptr(),
                                  .out_element = cuda::ElementOf(out),
                                  .adds = adds,
                                  .fast_accumulation = fast_accumulation},
                                 cuda::CurrentStream(out));
  }
  if (is_done) return;
  // Row scales and an fp32 result do not go together everywhere.
  TORCH_CHECK(out.scalar_type() == at::kFloat, "float8: this GPU has no product of ", a.sizes(), " and ", b.sizes(),
              " transposed; it needs compute capability 8.9 or later");
  const at::Tensor rounded = at::empty(out.sizes(), out.options().dtype(at::kBFloat16));
  CudaProduct(rounded, a, inverse_scale_a, b, inverse_scale_b, /*adds=*/false, fast_accumulation);
  adds ? out.add_(rounded) : out.copy_(rounded);
}

}  // namespace

at::Tensor Float8Product(const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                         const at::Tensor& inverse_scale_b, const Float8ProductOptions& options) {
  if (a.is_cpu()) return ProductComposite(a, inverse_scale_a, b, inverse_scale_b).to(options.dtype);
  const at::Tensor out = at::empty({a.size(0), b.size(0)}, a.options().dtype(options.dtype));
  CudaProduct(out, a, inverse_scale_a, b, inverse_scale_b, /*adds=*/false, options.fast_accumulation);
  return out;
}

void Float8ProductInto(at::Tensor& out, const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                       const at::Tensor& inverse_scale_b, bool adds) {
  if (!a.is_cpu()) return CudaProduct(out, a, inverse_scale_a, b, inverse_scale_b, adds, /*fast_accumulation=*/false);
  const at::Tensor product = ProductComposite(a, inverse_scale_a, b, inverse_scale_b);
  adds ? out.add_(product) : out.copy_(product);
}

}  // namespace titan
