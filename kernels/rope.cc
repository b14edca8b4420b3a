#include "kernels/rope.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "kernels/cuda.h"
#include "kernels/function.h"
#include "kernels/rope_cuda.h"
#include "kernels/simd.h"

namespace titan {
namespace {

template <typename T>
TITAN_INLINE void RotateHead(const T* __restrict x, const Accumulator<T>* __restrict cos,
                             const Accumulator<T>* __restrict sin, Accumulator<T> sign, int64_t half, T* __restrict y) {
  using A = Accumulator<T>;
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const A first = static_cast<A>(x[i]), second = static_cast<A>(x[i + half]);
    y[i] = static_cast<T>(first * cos[i] - sign * second * sin[i]);
    y[i + half] = static_cast<T>(second * cos[i] + sign * first * sin[i]);
  }
}

void RotateCpu(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int sign, at::Tensor& y) {
  const int64_t sequence = x.size(1), tokens = x.size(0) * sequence, heads = x.size(2), dim = x.size(3);
  const int64_t half = dim / 2;
  DispatchFloating(x.scalar_type(), "rope", [&]<typename T>() {
    using A = Accumulator<T>;
    const T* x_data = x.const_data_ptr<T>();
    const A *cos_data = cos.const_data_ptr<A>(), *sin_data = sin.const_data_ptr<A>();
    T* y_data = y.mutable_data_ptr<T>();
    const int64_t batch_stride = x.stride(0), token_stride = x.stride(1), head_stride = x.stride(2);
    at::parallel_for(0, tokens, 16, [&](int64_t begin, int64_t end) {
      WithBestSimd([&]() TITAN_INLINE_LAMBDA {
        for (int64_t token = begin; token < end; ++token) {
          const T* from = x_data + (token / sequence) * batch_stride + (token % sequence) * token_stride;
          T* to = y_data + token * heads * dim;
          for (int64_t head = 0; head < heads; ++head) {
            RotateHead<T>(from + head * head_stride, cos_data + token * half, sin_data + token * half,
                          static_cast<A>(sign), half, to + head * dim);
          }
        }
      });
    });
  });
}

void RotateCuda(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int sign, at::Tensor& y) {
  if constexpr (cuda::kHasKernels) {
    cuda::Rope({.element = cuda::ElementOf(x),
                .batch = x.size(0),
                .sequence = x.size(1),
                .heads = x.size(2),
                .dim = x.size(3),
                .batch_stride = x.stride(0),
                .token_stride = x.stride(1),
                .head_stride = x.stride(2),
                .x = x.const_data_ptr(),
                .cos = cos.const_data_ptr(),
                .sin = sin.const_data_ptr(),
                .inverse = sign < 0,
                .y = y.mutable_data_ptr()},
               cuda::CurrentStream(x));
  }
}

// sign 1 rotates, -1 rotates back. The elements of a head of x must be contiguous, nothing else.
at::Tensor Rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int sign) {
  at::Tensor y = at::empty(x.sizes(), x.options());
  (x.is_cpu() ? RotateCpu : RotateCuda)(x, cos, sin, sign, y);
  return y;
}

at::Tensor WithUnitStride(const at::Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

at::Tensor RecordRope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const auto forward = [&](const TensorVector& in) -> Recorded {
    return {.outputs = {Rotate(WithUnitStride(in[0]), cos, sin, 1)}, .saved = {cos, sin}};
  };
  const auto backward = [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    return {Rotate(WithUnitStride(gradients[0]), saved[0], saved[1], -1)};
  };
  return ApplyFunction({x}, forward, backward)[0];
}

}  // namespace

at::Tensor Rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  TORCH_CHECK(x.dim() == 4 && x.size(3) % 2 == 0, "rope: expects (B, S, H, d) with even d, got ", x.sizes());
  const std::vector<int64_t> table = {x.size(0), x.size(1), x.size(3) / 2};
  TORCH_CHECK(cos.sizes() == at::IntArrayRef(table) && sin.sizes() == at::IntArrayRef(table), "rope: tables ",
              cos.sizes(), " and ", sin.sizes(), " do not fit x ", x.sizes());
  const auto accumulator = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK(cos.scalar_type() == accumulator && sin.scalar_type() == accumulator, "rope: tables must be ",
              accumulator);
  cuda::CheckDevice(x, "rope");
  return RecordRope(x, cos.contiguous(), sin.contiguous());
}

}  // namespace titan
