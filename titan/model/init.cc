#include "titan/model/init.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "absl/log/check.h"
#include "kernels/cuda.h"
#include "kernels/simd.h"
#include "titan/model/init_cuda.h"
#include "titan/model/init_values.h"

namespace titan {
namespace {

using init_internal::DrawWords;
using init_internal::ValueOf;

constexpr int64_t kCounters = 64;             // Philox blocks that are computed side by side
constexpr int64_t kElements = 4 * kCounters;  // of one such group

uint64_t Fnv1a64(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

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
    uint32_t c0, c1, c2, c3;
    DrawWords(seed, name, static_cast<uint64_t>(group * kCounters + c), c0, c1, c2, c3);
    words[0][c] = c0;
    words[1][c] = c1;
    words[2][c] = c2;
    words[3][c] = c3;
  }
  float values[4][kCounters];
  for (int64_t w = 0; w < 4; ++w) {
#pragma GCC ivdep
    for (int64_t c = 0; c < kCounters; ++c) values[w][c] = ValueOf(words[w][c], scaling);
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
  init_internal::PhiloxRounds(counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return counter;
}

double NormalQuantile(double q) { return init_internal::Quantile(q); }

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

at::Tensor InitialValue(const ParameterSpec& parameter, uint64_t seed, at::Device device) {
  const at::TensorOptions options(at::kFloat);
  if (parameter.init.kind == Init::Kind::kOnes) return at::ones(parameter.shape, options.device(device));
  const bool draws_there = cuda::kHasKernels && device.is_cuda();
  at::Tensor value = at::empty(parameter.shape, options.device(draws_there ? device : at::kCPU));
  if (!draws_there) {
    InitParameter(parameter, seed, 0, value.numel(), value.mutable_data_ptr<float>());
  } else if constexpr (cuda::kHasKernels) {
    cuda::DrawValues(seed, Fnv1a64(parameter.name), ScalingOf(parameter.init), value.numel(),
                     value.mutable_data_ptr<float>(), cuda::CurrentStream(value));
  }
  return value.to(device);
}

}  // namespace titan
