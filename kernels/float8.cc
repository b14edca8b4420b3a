#include "kernels/float8.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_scaled_mm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/where.h>

#include "kernels/cuda.h"
#include "kernels/float8_cuda.h"

namespace titan {
namespace {

constexpr int64_t kMultiple = 16;  // of both extents: what the tensor cores want

at::ScalarType DtypeOf(Float8Format format) {
  return format == Float8Format::kE4m3 ? at::kFloat8_e4m3fn : at::kFloat8_e5m2;
}

double LargestOf(Float8Format format) { return format == Float8Format::kE4m3 ? 448.0 : 57344.0; }

Float8Matrix QuantizeComposite(const at::Tensor& x, Float8Format format, const Float8Layouts& layouts) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor largest = wide.abs().max();
  const at::Tensor scale = at::where(largest.gt(0), LargestOf(format) / largest, 1.0).to(at::kFloat);
  const at::Tensor values = (wide * scale).clamp(-LargestOf(format), LargestOf(format)).to(DtypeOf(format));
  Float8Matrix result{.values = {}, .transposed = {}, .inverse_scale = scale.reciprocal()};
  if (layouts.values) result.values = values;
  if (layouts.transposed) result.transposed = values.t().contiguous();
  return result;
}

Float8Matrix QuantizeCuda(const at::Tensor& x, Float8Format format, const Float8Layouts& layouts) {
  const at::TensorOptions bytes = x.options().dtype(DtypeOf(format)), fp32 = x.options().dtype(at::kFloat);
  Float8Matrix result{.values = {}, .transposed = {}, .inverse_scale = at::empty({}, fp32)};
  if (layouts.values) result.values = at::empty({x.size(0), x.size(1)}, bytes);
  if (layouts.transposed) result.transposed = at::empty({x.size(1), x.size(0)}, bytes);
  const at::Tensor largest = at::empty({}, fp32);
  if constexpr (cuda::kHasKernels) {
    const cuda::Stream stream = cuda::CurrentStream(x);
    const auto pointer = [](const at::Tensor& t) { return t.defined() ? t.mutable_data_ptr() : nullptr; };
    cuda::LargestMagnitude(cuda::ElementOf(x), x.const_data_ptr(), x.numel(), largest.mutable_data_ptr<float>(),
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

// For devices without float8 units: the same factors, summed in fp32.
at::Tensor ProductComposite(const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                            const at::Tensor& inverse_scale_b) {
  return at::mm(a.to(at::kFloat) * inverse_scale_a, (b.to(at::kFloat) * inverse_scale_b).t());
}

}  // namespace

Float8Matrix QuantizeFloat8(const at::Tensor& x, Float8Format format, const Float8Layouts& layouts) {
  TORCH_CHECK(x.dim() == 2 && x.size(0) % kMultiple == 0 && x.size(1) % kMultiple == 0, "float8: ", x.sizes(),
              " is not a matrix whose extents are multiples of ", kMultiple);
  cuda::CheckDevice(x, "float8");
  return x.is_cpu() ? QuantizeComposite(x, format, layouts) : QuantizeCuda(x.contiguous(), format, layouts);
}

at::Tensor Float8Product(const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                         const at::Tensor& inverse_scale_b, const Float8ProductOptions& options) {
  if (a.is_cpu()) return ProductComposite(a, inverse_scale_a, b, inverse_scale_b).to(options.dtype);
  return at::_scaled_mm(a, b.t(), inverse_scale_a, inverse_scale_b, /*bias=*/{}, /*scale_result=*/{}, options.dtype,
                        options.fast_accumulation);
}

void Float8ProductInto(at::Tensor& out, const at::Tensor& a, const at::Tensor& inverse_scale_a, const at::Tensor& b,
                       const at::Tensor& inverse_scale_b) {
  if (a.is_cpu()) {
    out.copy_(ProductComposite(a, inverse_scale_a, b, inverse_scale_b));
    return;
  }
  at::_scaled_mm_out(out, a, b.t(), inverse_scale_a, inverse_scale_b, /*bias=*/{}, /*scale_result=*/{},
                     out.scalar_type());
}

}  // namespace titan
