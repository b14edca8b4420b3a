#include "kernels/rms_norm.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <vector>

#include "kernels/cuda.h"
#include "kernels/function.h"
#include "kernels/rms_norm_cuda.h"
#include "kernels/simd.h"

namespace titan {
namespace {

// Rows whose weight gradients are summed together. Fixed, so that the sum does not depend on the number of threads.
constexpr int64_t kRowsPerPartial = 64;

// sum = a (+ b), y = sum / rms(sum) * weight; returns 1 / rms.
template <typename T, bool kAdd>
TITAN_INLINE Accumulator<T> NormalizeRow(const T* __restrict a, const T* __restrict b, const T* __restrict weight,
                                         int64_t dim, double eps, T* __restrict sum, T* __restrict y) {
  using A = Accumulator<T>;
  A squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t i = 0; i < dim; ++i) {
    A value = static_cast<A>(a[i]);
    if constexpr (kAdd) {
      sum[i] = static_cast<T>(value + static_cast<A>(b[i]));
      value = static_cast<A>(sum[i]);
    }
    squares += value * value;
  }
  const T* x = kAdd ? sum : a;
  const A inverse_rms = A(1) / std::sqrt(squares / static_cast<A>(dim) + static_cast<A>(eps));
#pragma omp simd
  for (int64_t i = 0; i < dim; ++i) {
    const A normalized = static_cast<A>(static_cast<T>(static_cast<A>(x[i]) * inverse_rms));
    y[i] = static_cast<T>(normalized * static_cast<A>(weight[i]));
  }
  return inverse_rms;
}

// With n = x / rms and g = dy * weight: dx = (g - n mean(g n)) / rms (+ dsum); dweight += dy n.
template <typename T, bool kAdd>
TITAN_INLINE void BackwardRow(const T* __restrict x, const T* __restrict dy, const T* __restrict dsum,
                              const T* __restrict weight, Accumulator<T> inverse_rms, int64_t dim, T* __restrict dx,
                              Accumulator<T>* __restrict dweight) {
  using A = Accumulator<T>;
  A dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < dim; ++i) {
    const A normalized = static_cast<A>(x[i]) * inverse_rms;
    const A gradient = static_cast<A>(dy[i]);
    dweight[i] += gradient * normalized;
    dot += gradient * static_cast<A>(weight[i]) * normalized;
  }
  const A mean = dot / static_cast<A>(dim);
#pragma omp simd
  for (int64_t i = 0; i < dim; ++i) {
    const A normalized = static_cast<A>(x[i]) * inverse_rms;
    A gradient = (static_cast<A>(dy[i]) * static_cast<A>(weight[i]) - normalized * mean) * inverse_rms;
    if constexpr (kAdd) gradient += static_cast<A>(dsum[i]);
    dx[i] = static_cast<T>(gradient);
  }
}

struct Normalization {
  at::Tensor y, sum, inverse_rms;
};

void ForwardCpu(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps,
                const Normalization& out) {
  const int64_t dim = x.size(-1), rows = out.inverse_rms.size(0);
  const bool add = residual.defined();
  DispatchFloating(x.scalar_type(), "rms_norm", [&]<typename T>() {
    const T* a = x.const_data_ptr<T>();
    const T* b = add ? residual.const_data_ptr<T>() : nullptr;
    const T* w = weight.const_data_ptr<T>();
    T* y = out.y.mutable_data_ptr<T>();
    T* sum = add ? out.sum.mutable_data_ptr<T>() : nullptr;
    auto* inverse_rms = out.inverse_rms.mutable_data_ptr<Accumulator<T>>();
    at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
      WithBestSimd([&]() TITAN_INLINE_LAMBDA {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t at = row * dim;
          inverse_rms[row] = add ? NormalizeRow<T, true>(a + at, b + at, w, dim, eps, sum + at, y + at)
                                 : NormalizeRow<T, false>(a + at, nullptr, w, dim, eps, nullptr, y + at);
        }
      });
    });
  });
}

const void* PointerOrNull(const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr() : nullptr; }

void ForwardCuda(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps,
                 const Normalization& out) {
  if constexpr (cuda::kHasKernels) {
    cuda::RmsNormForward({.element = cuda::ElementOf(x),
                          .rows = out.inverse_rms.size(0),
                          .dim = x.size(-1),
                          .x = x.const_data_ptr(),
                          .residual = PointerOrNull(residual),
                          .weight = weight.const_data_ptr(),
                          .eps = eps,
                          .sum = residual.defined() ? out.sum.mutable_data_ptr() : nullptr,
                          .y = out.y.mutable_data_ptr(),
                          .inverse_rms = out.inverse_rms.mutable_data_ptr()},
                         cuda::CurrentStream(x));
  }
}

// `residual` undefined: plain normalisation, and `sum` is x.
Normalization Forward(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) {
  const int64_t rows = x.size(-1) == 0 ? 0 : x.numel() / x.size(-1);
  const auto accumulator = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Normalization out{at::empty_like(x), residual.defined() ? at::empty_like(x) : x,
                          at::empty({rows}, x.options().dtype(accumulator))};
  (x.is_cpu() ? ForwardCpu : ForwardCuda)(x, residual, weight, eps, out);
  return out;
}

std::pair<at::Tensor, at::Tensor> BackwardCuda(const at::Tensor& x, const at::Tensor& weight,
                                               const at::Tensor& inverse_rms, const at::Tensor& dy,
                                               const at::Tensor& dsum) {
  at::Tensor dx = at::empty_like(x), dweight = at::empty_like(weight);
  const at::Tensor partials = at::empty({cuda::kRmsNormPartials, x.size(-1)}, inverse_rms.options());
  if constexpr (cuda::kHasKernels) {
    cuda::RmsNormBackward({.element = cuda::ElementOf(x),
                           .rows = inverse_rms.size(0),
                           .dim = x.size(-1),
                           .x = x.const_data_ptr(),
                           .weight = weight.const_data_ptr(),
                           .inverse_rms = inverse_rms.const_data_ptr(),
                           .dy = dy.const_data_ptr(),
                           .dsum = PointerOrNull(dsum),
                           .dx = dx.mutable_data_ptr(),
                           .partials = partials.mutable_data_ptr(),
                           .dweight = dweight.mutable_data_ptr()},
                          cuda::CurrentStream(x));
  }
  return {dx, dweight};
}

std::pair<at::Tensor, at::Tensor> BackwardCpu(const at::Tensor& x, const at::Tensor& weight,
                                              const at::Tensor& inverse_rms, const at::Tensor& dy,
                                              const at::Tensor& dsum) {
  const int64_t dim = x.size(-1);
  const int64_t rows = inverse_rms.size(0);
  const int64_t num_partials = (rows + kRowsPerPartial - 1) / kRowsPerPartial;
  const bool add = dsum.defined();
  at::Tensor dx = at::empty_like(x);
  at::Tensor dweight = at::empty_like(weight);
  at::Tensor partials = at::empty({num_partials, dim}, inverse_rms.options());
  DispatchFloating(x.scalar_type(), "rms_norm backward", [&]<typename T>() {
    using A = Accumulator<T>;
    const T *x_data = x.const_data_ptr<T>(), *dy_data = dy.const_data_ptr<T>(), *w = weight.const_data_ptr<T>();
    const T* dsum_data = add ? dsum.const_data_ptr<T>() : nullptr;
    const A* inverse = inverse_rms.const_data_ptr<A>();
    T* dx_data = dx.mutable_data_ptr<T>();
    A* partial_data = partials.mutable_data_ptr<A>();
    at::parallel_for(0, num_partials, 1, [&](int64_t begin, int64_t end) {
      WithBestSimd([&]() TITAN_INLINE_LAMBDA {
        for (int64_t partial = begin; partial < end; ++partial) {
          A* sum = partial_data + partial * dim;
          for (int64_t i = 0; i < dim; ++i) sum[i] = 0;
          for (int64_t row = partial * kRowsPerPartial; row < std::min(rows, (partial + 1) * kRowsPerPartial); ++row) {
            const int64_t at = row * dim;
            if (add) {
              BackwardRow<T, true>(x_data + at, dy_data + at, dsum_data + at, w, inverse[row], dim, dx_data + at, sum);
            } else {
              BackwardRow<T, false>(x_data + at, dy_data + at, nullptr, w, inverse[row], dim, dx_data + at, sum);
            }
          }
        }
      });
    });
    T* dw = dweight.mutable_data_ptr<T>();
    for (int64_t i = 0; i < dim; ++i) {
      A sum = 0;
      for (int64_t partial = 0; partial < num_partials; ++partial) sum += partial_data[partial * dim + i];
      dw[i] = static_cast<T>(sum);
    }
  });
  return {dx, dweight};
}

// Returns dx (of the sum) and dweight. `dsum` may be undefined.
std::pair<at::Tensor, at::Tensor> Backward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverse_rms,
                                           const at::Tensor& dy, const at::Tensor& dsum) {
  return (x.is_cpu() ? BackwardCpu : BackwardCuda)(x, weight, inverse_rms, dy, dsum);
}

at::Tensor RecordRmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const auto forward = [&](const TensorVector& in) -> Recorded {
    const at::Tensor weight = in[1].contiguous();
    Normalization out = Forward(in[0].contiguous(), at::Tensor(), weight, eps);
    return {.outputs = {out.y}, .saved = {out.sum, weight, out.inverse_rms}};
  };
  const auto backward = [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    auto [dx, dweight] = Backward(saved[0], saved[1], saved[2], gradients[0].contiguous(), at::Tensor());
    return {dx, dweight};
  };
  return ApplyFunction({x, weight}, forward, backward)[0];
}

TensorVector RecordAddRmsNorm(const at::Tensor& branch, const at::Tensor& residual, const at::Tensor& weight,
                              double eps) {
  const auto forward = [&](const TensorVector& in) -> Recorded {
    const at::Tensor weight = in[2].contiguous();
    Normalization out = Forward(in[0].contiguous(), in[1].contiguous(), weight, eps);
    return {.outputs = {out.y, out.sum}, .saved = {out.sum, weight, out.inverse_rms}};
  };
  const auto backward = [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    auto [dx, dweight] = Backward(saved[0], saved[1], saved[2], gradients[0].contiguous(), gradients[1].contiguous());
    return {dx, dx, dweight};
  };
  return ApplyFunction({branch, residual, weight}, forward, backward);
}

void CheckShapes(const at::Tensor& x, const at::Tensor& weight) {
  TORCH_CHECK(weight.dim() == 1 && x.dim() >= 1 && weight.size(0) == x.size(-1), "rms_norm: weight ", weight.sizes(),
              " does not fit x ", x.sizes());
  TORCH_CHECK(weight.scalar_type() == x.scalar_type(), "rms_norm: weight is ", weight.scalar_type(), ", x is ",
              x.scalar_type());
}

}  // namespace

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  CheckShapes(x, weight);
  cuda::CheckDevice(x, "rms_norm");
  return RecordRmsNorm(x, weight, eps);
}

std::pair<at::Tensor, at::Tensor> AddRmsNorm(const at::Tensor& branch, const at::Tensor& residual,
                                             const at::Tensor& weight, double eps) {
  CheckShapes(branch, weight);
  TORCH_CHECK(branch.sizes() == residual.sizes() && branch.scalar_type() == residual.scalar_type(),
              "rms_norm: branch and residual differ in shape or dtype");
  cuda::CheckDevice(branch, "rms_norm");
  const TensorVector out = RecordAddRmsNorm(branch, residual, weight, eps);
  return {out[0], out[1]};
}

}  // namespace titan
