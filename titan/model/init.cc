#include "titan/model/init.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <string_view>

#include "absl/log/check.h"
#include "kernels/simd.h"

namespace titan {
namespace {

constexpr int64_t kCounters = 64;             // Philox blocks that are computed side by side
constexpr int64_t kElements = 4 * kCounters;  // of one such group

uint64_t Fnv1a64(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

TITAN_INLINE void PhiloxRounds(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, uint32_t k0, uint32_t k1) {
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
TITAN_INLINE double Log(double x) {
  constexpr uint64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  const uint64_t distance = bits - kSqrtHalf;  // 2^52 k + less, modulo 2^64
  const double m = std::bit_cast<double>(bits - (distance & 0xfff0000000000000));
  const uint64_t biased = (distance + (uint64_t{1024} << 52)) >> 52;  // k + 1024
  const double k = std::bit_cast<double>(biased | 0x4330000000000000) - (4503599627370496.0 + 1024.0);
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
TITAN_INLINE double Polynomial(double x, double c0, double c1, double c2, double c3, double c4, double c5, double c6,
                               double c7) {
  return ((((((c7 * x + c6) * x + c5) * x + c4) * x + c3) * x + c2) * x + c1) * x + c0;
}

// AS 241's PPND16 without its last range (tails below e^-25), which 32-bit numbers do not reach. Both ranges are
// computed and one is chosen, so that loops vectorise.
TITAN_INLINE double Quantile(double q) {
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

// A distribution as value = stddev * quantile(width * (u - 1/2)).
struct Scaling {
  double width;  // probability of the interval that values come from
  double stddev;
  float largest;  // no rounding leads out of the interval
};

Scaling ScalingOf(const Init& init) {
  if (init.kind == Init::Kind::kNormal) return {1.0, init.stddev, INFINITY};
  return {CentralProbability(init.bound / init.stddev), init.stddev, static_cast<float>(init.bound)};
}

// All elements of group `group`: [kElements * group, kElements * (group + 1)).
TITAN_INLINE void DrawGroup(uint64_t seed, uint64_t name, int64_t group, const Scaling& scaling,
                            float* __restrict out) {
  uint32_t words[4][kCounters];  // word w of counter c: element 4 c + w
#pragma GCC ivdep
  for (int64_t c = 0; c < kCounters; ++c) {
    const uint64_t counter = static_cast<uint64_t>(group * kCounters + c);
    uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32);
    uint32_t c2 = static_cast<uint32_t>(name), c3 = static_cast<uint32_t>(name >> 32);
    PhiloxRounds(c0, c1, c2, c3, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    words[0][c] = c0;
    words[1][c] = c1;
    words[2][c] = c2;
    words[3][c] = c3;
  }
  float values[4][kCounters];
  for (int64_t w = 0; w < 4; ++w) {
#pragma GCC ivdep
    for (int64_t c = 0; c < kCounters; ++c) {
      // An exact conversion that vector units of every generation have: the word as the low bits of a double.
      const double word = std::bit_cast<double>(uint64_t{0x4330000000000000} | words[w][c]) - 4503599627370496.0;
      const double q = (word + 0.5) * 0x1p-32 - 0.5;
      const float value = static_cast<float>(scaling.stddev * Quantile(scaling.width * q));
      const float below = value > scaling.largest ? scaling.largest : value;
      values[w][c] = below < -scaling.largest ? -scaling.largest : below;
    }
  }
  for (int64_t c = 0; c < kCounters; ++c) {
    for (int64_t w = 0; w < 4; ++w) out[4 * c + w] = values[w][c];
  }
}

// e^-x for 0 <= x <= 64, by squaring a Taylor series six times.
double ExpOfMinus(double x) {
  const double y = -x / 64.0;
  double sum = 1.0, term = 1.0;
  for (int k = 1; k <= 24; ++k) {
    term *= y / k;
    sum += term;
  }
  for (int i = 0; i < 6; ++i) sum *= sum;
  return sum;
}

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  PhiloxRounds(counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return counter;
}

double NormalQuantile(double q) { return Quantile(q); }

// sqrt(2 / pi) e^(-x^2/2) (x + x^3/3 + x^5/(3 5) + ...); Abramowitz and Stegun 26.2.11.
double CentralProbability(double x) {
  if (x >= 9) return 1.0;  // less than 2^-61 away
  double sum = x, term = x;
  for (int k = 1; k < 200; ++k) {
    term *= x * x / (2 * k + 1);
    sum += term;
  }
  return std::min(1.0, 0.797884560802865355880 * ExpOfMinus(x * x / 2) * sum);
}

void InitParameter(const ParameterSpec& parameter, uint64_t seed, int64_t begin, int64_t end, float* out) {
  CHECK(0 <= begin && begin <= end && end <= parameter.num_elements())
      << parameter.name << ": elements [" << begin << ", " << end << ") of " << parameter.num_elements();
  if (parameter.init.kind == Init::Kind::kOnes) {
    std::fill(out, out + (end - begin), 1.0f);
    return;
  }
  const Scaling scaling = ScalingOf(parameter.init);
  const uint64_t name = Fnv1a64(parameter.name);
  const int64_t first = begin / kElements, last = (end + kElements - 1) / kElements;
  at::parallel_for(first, last, 64, [&](int64_t from, int64_t to) {
    WithBestSimd([&]() TITAN_INLINE_LAMBDA {
      float group_values[kElements];
      for (int64_t group = from; group < to; ++group) {
        DrawGroup(seed, name, group, scaling, group_values);
        const int64_t start = group * kElements;
        const int64_t low = std::max(begin, start), high = std::min(end, start + kElements);
        std::copy(group_values + (low - start), group_values + (high - start), out + (low - begin));
      }
    });
  });
}

at::Tensor InitialValue(const ParameterSpec& parameter, uint64_t seed) {
  at::Tensor value = at::empty(parameter.shape, at::TensorOptions(at::kFloat));
  InitParameter(parameter, seed, 0, parameter.num_elements(), value.mutable_data_ptr<float>());
  return value;
}

}  // namespace titan
