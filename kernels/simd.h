// Inner loops of CPU kernels, compiled for several instruction sets and chosen at run time, so that one binary is fast
// everywhere without -march flags. The loop body is a lambda that must be inlined; what it calls should be
// TITAN_INLINE.
//
//   at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
//     WithBestSimd([&]() TITAN_INLINE_LAMBDA {
//       for (int64_t row = begin; row < end; ++row) Normalize(x + row * dim, y + row * dim, dim);
//     });
//   });
//
// Files that use it are built with KERNEL_COPTS (build_defs.bzl): -O3 vectorises, `#pragma omp simd` may reorder sums.
// A sum depends on the vector width, hence on the machine type, but never on the number of threads.

#ifndef TITAN_KERNELS_SIMD_H_
#define TITAN_KERNELS_SIMD_H_

#include <c10/core/ScalarType.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#define TITAN_INLINE inline __attribute__((always_inline))
#define TITAN_INLINE_LAMBDA __attribute__((always_inline))

namespace titan {

// The type in which values of type T are summed: double for double, else float.
template <typename T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

enum class Isa { kBaseline, kAvx2, kAvx512 };

namespace simd_internal {

template <typename F>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512"))) void CallAvx512(const F& f) {
  f();
}

template <typename F>
__attribute__((target("avx2,fma"))) void CallAvx2(const F& f) {
  f();
}

inline Isa DetectIsa() {
  if (!__builtin_cpu_supports("fma") || !__builtin_cpu_supports("avx2")) return Isa::kBaseline;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx512 ? Isa::kAvx512 : Isa::kAvx2;
}

}  // namespace simd_internal

// The widest instruction set that this machine has.
inline Isa BestIsa() {
  static const Isa isa = simd_internal::DetectIsa();
  return isa;
}

// Calls f, compiled for the widest instruction set that this machine has.
template <typename F>
void WithBestSimd(const F& f) {
  switch (BestIsa()) {
    case Isa::kAvx512:
      return simd_internal::CallAvx512(f);
    case Isa::kAvx2:
      return simd_internal::CallAvx2(f);
    case Isa::kBaseline:
      return f();
  }
}

// Calls f.operator()<T>() with the C++ type of `dtype`: float, double or c10::BFloat16.
template <typename F>
void DispatchFloating(c10::ScalarType dtype, const char* op, const F& f) {
  switch (dtype) {
    case c10::ScalarType::Float:
      return f.template operator()<float>();
    case c10::ScalarType::Double:
      return f.template operator()<double>();
    case c10::ScalarType::BFloat16:
      return f.template operator()<c10::BFloat16>();
    default:
      TORCH_CHECK(false, op, ": dtype ", dtype, " is not supported on the CPU; use float32, float64 or bfloat16");
  }
}

// e^x. The float form has no branches or calls, so that loops around it vectorise: Cody-Waite reduction and the
// polynomial of Cephes' expf; within 2 ulp, x is clamped to where the result is a normal number.
TITAN_INLINE float Exp(float x) {
  x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  return ((p * r) * r + r + 1.0f) * std::bit_cast<float>((exponent + 127) << 23);
}

TITAN_INLINE double Exp(double x) { return std::exp(x); }

}  // namespace titan

#endif  // TITAN_KERNELS_SIMD_H_
