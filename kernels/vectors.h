// Vectors as wide as the instruction set that a file is compiled for, which defines TITAN_SIMD_NAMESPACE:
// attention_tiles.h says why, and what must not be here.
//
//   Vector<float> sum = Load(x) * Load(y);
//   const float dot = Reduce<float>(sum, [](Vector<float> a, Vector<float> b) { return a + b; })[0];

#ifndef TITAN_KERNELS_VECTORS_H_
#define TITAN_KERNELS_VECTORS_H_

#include <cstdint>
#include <type_traits>

#define TITAN_INLINE inline __attribute__((always_inline))

namespace titan::TITAN_SIMD_NAMESPACE {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct Simd {
  static constexpr int64_t kLanes = kVectorBytes / sizeof(T);
  typedef T Vector __attribute__((vector_size(kVectorBytes)));
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Index __attribute__((vector_size(kVectorBytes)));
  typedef T Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
};
template <typename T>
using Vector = typename Simd<T>::Vector;

template <typename T>
TITAN_INLINE Vector<T> Load(const T* from) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(from);
}

template <typename T>
TITAN_INLINE void Store(T* to, Vector<T> value) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(to) = value;
}

TITAN_INLINE float Power2(float x) { return __builtin_exp2f(x); }
TITAN_INLINE double Power2(double x) { return __builtin_exp2(x); }

TITAN_INLINE float Log2(float x) { return __builtin_log2f(x); }
TITAN_INLINE double Log2(double x) { return __builtin_log2(x); }

// 2^x for x <= 1, 0 below -126; within 2 ulp. A fit of 2^r on [-1/2, 1/2] whose relative error is at most 9.1e-8 and
// nowhere larger than at six points (equal ripples), with the constant fixed to 1.
TITAN_INLINE Vector<float> Exp2(Vector<float> x) {
  typedef int32_t Integers __attribute__((vector_size(kVectorBytes)));
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold
  const Vector<float> shifted = x + kRound;
  const Vector<float> r = x - (shifted - kRound);
  Vector<float> p = r * 1.32647273e-3f + 9.67151299e-3f;
  p = p * r + 5.55073358e-2f;
  p = p * r + 2.40222424e-1f;
  p = p * r + 6.93147004e-1f;
  p = p * r + 1.0f;
  const Vector<float> power =
      reinterpret_cast<Vector<float>>(reinterpret_cast<Integers>(p) + (reinterpret_cast<Integers>(shifted) << 23));
  return x < -126.0f ? Vector<float>{} : power;
}

TITAN_INLINE Vector<double> Exp2(Vector<double> x) {
  for (int lane = 0; lane < Simd<double>::kLanes; ++lane) x[lane] = __builtin_exp2(x[lane]);
  return x;
}

// Combines the lanes by f, pairwise; every lane of the result holds it.
template <typename T, typename F>
TITAN_INLINE Vector<T> Reduce(Vector<T> x, const F& f) {
  typename Simd<T>::Index index;
#pragma GCC unroll 8
  for (int width = Simd<T>::kLanes / 2; width > 0; width /= 2) {
#pragma GCC unroll 16
    for (int lane = 0; lane < Simd<T>::kLanes; ++lane) index[lane] = lane ^ width;
    x = f(x, __builtin_shuffle(x, index));
  }
  return x;
}

}  // namespace
}  // namespace titan::TITAN_SIMD_NAMESPACE

#endif  // TITAN_KERNELS_VECTORS_H_
