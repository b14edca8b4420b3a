#include "kernels/rope.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include "kernels/function.h"
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

// sign 1 rotates, -1 rotates back. x needs contiguous heads only: (H, d) of one token in one piece.
at::Tensor RotateCpu(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int sign) {
  const int64_t sequence = x.size(1), tokens = x.size(0) * sequence, heads = x.size(2), dim = x.size(3);
  const int64_t half = dim / 2;
  at::Tensor y = at::empty(x.sizes(), x.options());
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
  return y;
}

at::Tensor WithUnitStride(const at::Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

at::Tensor RecordRope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const auto forward = [&](const TensorVector& in) -> Recorded {
    return {.outputs = {RotateCpu(WithUnitStride(in[0]), cos, sin, 1)}, .saved = {cos, sin}};
  };
  const auto backward = [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    return {RotateCpu(WithUnitStride(gradients[0]), saved[0], saved[1], -1)};
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
  if (x.is_cpu()) return RecordRope(x, cos.contiguous(), sin.contiguous());
  const int64_t half = x.size(3) / 2;
  const at::Tensor wide = x.to(accumulator), c = cos.unsqueeze(2), s = sin.unsqueeze(2);
  const at::Tensor first = wide.narrow(3, 0, half), second = wide.narrow(3, half, half);
  return at::cat({first * c - second * s, second * c + first * s}, 3).to(x.scalar_type());
}

}  // namespace titan
