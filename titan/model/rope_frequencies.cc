#include "titan/model/rope_frequencies.h"

#include <cmath>
#include <numbers>

#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

// In fp32, operation by operation as transformers does it: whoever continues with the weights there, or brings them
// from there, has the same angles. The doubles of the same formula differ by 1e-8, which training makes visible.
float ScaledAsLlama3(const config::Rope& rope, float frequency) {
  const auto original = static_cast<float>(rope.original_max_seq_len());
  const auto factor = static_cast<float>(rope.scaling_factor());
  const double shortest = rope.original_max_seq_len() / rope.high_freq_factor();
  const double longest = rope.original_max_seq_len() / rope.low_freq_factor();
  const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;  // in tokens
  if (wavelength > static_cast<float>(longest)) return frequency / factor;
  if (wavelength < static_cast<float>(shortest)) return frequency;
  const float kept = (original / wavelength - static_cast<float>(rope.low_freq_factor())) /
                     static_cast<float>(rope.high_freq_factor() - rope.low_freq_factor());
  return (1 - kept) * frequency / factor + kept * frequency;
}

}  // namespace

std::vector<double> RopeFrequencies(const config::Rope& rope, int64_t head_dim) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    if (rope.scaling_type() == config::Rope::SCALING_TYPE_LLAMA3) {
      const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
      frequencies.push_back(ScaledAsLlama3(rope, 1 / std::pow(static_cast<float>(rope.theta()), exponent)));
    } else {
      frequencies.push_back(std::pow(rope.theta(), -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
    }
  }
  return frequencies;
}

}  // namespace titan
