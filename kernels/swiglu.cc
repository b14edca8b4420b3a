#include "kernels/swiglu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>

#include "kernels/cuda.h"
#include "kernels/function.h"
#include "kernels/simd.h"
#include "kernels/swiglu_cuda.h"

namespace titan {
namespace {

constexpr int64_t kGrain = 16384;  // elements

template <typename T>
TITAN_INLINE void Forward(const T* __restrict gate, const T* __restrict up, int64_t n, T* __restrict out) {
  using A = Accumulator<T>;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A a = static_cast<A>(gate[i]);
    out[i] = static_cast<T>(a / (A(1) + Exp(-a)) * static_cast<A>(up[i]));
  }
}

// silu'(a) = s (1 + a (1 - s)) with s = 1 / (1 + exp(-a)).
template <typename T>
TITAN_INLINE void Backward(const T* __restrict gate, const T* __restrict up, const T* __restrict dout, int64_t n,
                           T* __restrict dgate, T* __restrict dup) {
  using A = Accumulator<T>;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A a = static_cast<A>(gate[i]), gradient = static_cast<A>(dout[i]);
    const A sigmoid = A(1) / (A(1) + Exp(-a));
    dgate[i] = static_cast<T>(gradient * static_cast<A>(up[i]) * sigmoid * (A(1) + a * (A(1) - sigmoid)));
    dup[i] = static_cast<T>(gradient * a * sigmoid);
  }
}

void ForwardCpu(const at::Tensor& gate, const at::Tensor& up, at::Tensor& out) {
  DispatchFloating(gate.scalar_type(), "swiglu", [&]<typename T>() {
    const T *a = gate.const_data_ptr<T>(), *b = up.const_data_ptr<T>();
    T* y = out.mutable_data_ptr<T>();
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      WithBestSimd([&]() TITAN_INLINE_LAMBDA { Forward<T>(a + begin, b + begin, end - begin, y + begin); });
    });
  });
}

void BackwardCpu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& dout, at::Tensor& dgate,
                 at::Tensor& dup) {
  DispatchFloating(gate.scalar_type(), "swiglu backward", [&]<typename T>() {
    const T *a = gate.const_data_ptr<T>(), *b = up.const_data_ptr<T>(), *dy = dout.const_data_ptr<T>();
    T *da = dgate.mutable_data_ptr<T>(), *db = dup.mutable_data_ptr<T>();
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      WithBestSimd([&]() TITAN_INLINE_LAMBDA {
        Backward<T>(a + begin, b + begin, dy + begin, end - begin, da + begin, db + begin);
      });
    });
  });
}

// All contiguous.
at::Tensor Gate(const at::Tensor& gate, const at::Tensor& up) {
  at::Tensor out = at::empty_like(gate);
  if (gate.is_cpu()) {
    ForwardCpu(gate, up, out);
  } else if constexpr (cuda::kHasKernels) {
    cuda::SwiGluForward(cuda::ElementOf(gate), gate.const_data_ptr(), up.const_data_ptr(), gate.numel(),
                        out.mutable_data_ptr(), cuda::CurrentStream(gate));
  }
  return out;
}

TensorVector GateBackward(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& dout) {
  at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(up);
  if (gate.is_cpu()) {
    BackwardCpu(gate, up, dout, dgate, dup);
  } else if constexpr (cuda::kHasKernels) {
    cuda::SwiGluBackward(cuda::ElementOf(gate), gate.const_data_ptr(), up.const_data_ptr(), dout.const_data_ptr(),
                         gate.numel(), dgate.mutable_data_ptr(), dup.mutable_data_ptr(), cuda::CurrentStream(gate));
  }
  return {dgate, dup};
}

}  // namespace

at::Tensor SwiGlu(const at::Tensor& gate, const at::Tensor& up) {
  TORCH_CHECK(gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(), "swiglu: gate ", gate.sizes(),
              " and up ", up.sizes(), " must have one shape and dtype");
  cuda::CheckDevice(gate, "swiglu");
  return ApplyFunction(
      {gate, up},
      [](const TensorVector& in) -> Recorded {
        const at::Tensor gate = in[0].contiguous(), up = in[1].contiguous();
        return {.outputs = {Gate(gate, up)}, .saved = {gate, up}};
      },
      [](const TensorVector& saved, const TensorVector& gradients) {
        return GateBackward(saved[0], saved[1], gradients[0].contiguous());
      })[0];
}

}  // namespace titan
