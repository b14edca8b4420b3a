// The arithmetic of initial values (init.h) for the host, whose loops over it vectorise, and for CUDA kernels. Whatever
// compiles it must not contract products and sums into fused multiply-adds (-ffp-contract=off, nvcc's -fmad=false);
// then the bits are the same everywhere. Free of LibTorch and of CUDA's headers.

#ifndef TITAN_MODEL_INIT_VALUES_H_
#define TITAN_MODEL_INIT_VALUES_H_

#include <bit>
#include <cmath>
#include <cstdint>

// On the host this is TITAN_INLINE, as loops under WithBestSimd need it, but without LibTorch, which kernels/simd.h
// includes.
#ifdef __CUDACC__
#define TITAN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TITAN_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace titan {

// A distribution as value = stddev * quantile(width * (u - 1/2)).
struct Scaling {
  double width;  // probability of the interval that values come from
  double stddev;
  float largest;  // no rounding leads out of the interval
};

namespace init_internal {

// std::bit_cast is for the host only.
TITAN_HOST_DEVICE uint64_t BitsOf(double x) {
#ifdef __CUDA_ARCH__
  return static_cast<uint64_t>(__double_as_longlong(x));
#else
  return std::bit_cast<uint64_t>(x);
#endif
}

TITAN_HOST_DEVICE double FromBits(uint64_t bits) {
#ifdef __CUDA_ARCH__
  return __longlong_as_double(static_cast<long long>(bits));
#else
  return std::bit_cast<double>(bits);
#endif
}

TITAN_HOST_DEVICE void PhiloxRounds(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * c0, product1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(product0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
}

// ln x for 0 < x < 2^1000: x = 2^k m with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh((m - 1) / (m + 1)) as a series.
TITAN_HOST_DEVICE double Log(double x) {
  constexpr uint64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
  const uint64_t bits = BitsOf(x);
  const uint64_t distance = bits - kSqrtHalf;  // 2^52 k + less, modulo 2^64
  const double m = FromBits(bits - (distance & 0xfff0000000000000));
  const uint64_t biased = (distance + (uint64_t{1024} << 52)) >> 52;  // k + 1024
  const double k = FromBits(biased | 0x4330000000000000) - (4503599627370496.0 + 1024.0);
  const double s = (m - 1.0) / (m + 1.0), t = s * s;
  double sum = 1.0 / 23.0;
  sum = sum * t + 1.0 / 21.0;
  sum = sum * t + 1.0 / 19.0;
  sum = sum * t + 1.0 / 17.0;
  sum = sum * t + 1.0 / 15.0;
  sum = sum * t + 1.0 / 13.0;
  sum = sum * t + 1.0 / 11.0;
  sum = sum * t + 1.0 / 9.0;
  sum = sum * t + 1.0 / 7.0;
  sum = sum * t + 1.0 / 5.0;
  sum = sum * t + 1.0 / 3.0;
  return k * 0.693147180559945309417 + 2.0 * (s + s * t * sum);
}

// c0 + c1 x + ... + c7 x^7.
TITAN_HOST_DEVICE double Polynomial(double x, double c0, double c1, double c2, double c3, double c4, double c5,
                                    double c6, double c7) {
  return ((((((c7 * x + c6) * x + c5) * x + c4) * x + c3) * x + c2) * x + c1) * x + c0;
}

// AS 241's PPND16 without its last range (tails below e^-25), which 32-bit numbers do not reach. Both ranges are
// computed and one is chosen, so that loops vectorise.
TITAN_HOST_DEVICE double Quantile(double q) {
  const double r = 0.180625 - q * q;
  const double center =
      q *
      Polynomial(r, 3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
                 4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3) /
      Polynomial(r, 1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
                 2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3);
  const double magnitude = q < 0 ? -q : q;
  const double t = std::sqrt(-Log(0.5 - magnitude)) - 1.6;
  const double tail = Polynomial(t, 1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
                                 3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
                                 2.27238449892691845833e-2, 7.74545014278341407640e-4) /
                      Polynomial(t, 1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
                                 1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
                                 1.05075007164441684324e-9);
  return magnitude <= 0.425 ? center : (q < 0 ? -tail : tail);
}

// The words of elements 4 counter, ..., 4 counter + 3 of the parameter whose name has the hash `name`.
TITAN_HOST_DEVICE void DrawWords(uint64_t seed, uint64_t name, uint64_t counter, uint32_t& word0, uint32_t& word1,
                                 uint32_t& word2, uint32_t& word3) {
  word0 = static_cast<uint32_t>(counter);
  word1 = static_cast<uint32_t>(counter >> 32);
  word2 = static_cast<uint32_t>(name);
  word3 = static_cast<uint32_t>(name >> 32);
  PhiloxRounds(word0, word1, word2, word3, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// The value of the element that has this word.
TITAN_HOST_DEVICE float ValueOf(uint32_t word, const Scaling& scaling) {
  // An exact conversion that vector units of every generation have: the word as the low bits of a double.
  const double number = FromBits(uint64_t{0x4330000000000000} | word) - 4503599627370496.0;
  const double q = (number + 0.5) * 0x1p-32 - 0.5;
  const float value = static_cast<float>(scaling.stddev * Quantile(scaling.width * q));
  const float below = value > scaling.largest ? scaling.largest : value;
  return below < -scaling.largest ? -scaling.largest : below;
}

}  // namespace init_internal
}  // namespace titan

#endif  // TITAN_MODEL_INIT_VALUES_H_
