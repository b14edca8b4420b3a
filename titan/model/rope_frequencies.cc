#include "titan/model/rope_frequencies.h"

#include <cmath>
#include <numbers>

#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

double ScaledAsLlama3(const config::Rope& rope, double frequency) {
  const double original = static_cast<double>(rope.original_max_seq_len());
  const double turns = original * frequency / (2 * std::numbers::pi);  // over the original length
  if (turns < rope.low_freq_factor()) return frequency / rope.scaling_factor();
  if (turns > rope.high_freq_factor()) return frequency;
  const double kept = (turns - rope.low_freq_factor()) / (rope.high_freq_factor() - rope.low_freq_factor());
  return (1 - kept) * frequency / rope.scaling_factor() + kept * frequency;
}

}  // namespace

std::vector<double> RopeFrequencies(const config::Rope& rope, int64_t head_dim) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
    const double frequency = std::pow(rope.theta(), exponent);
    frequencies.push_back(rope.scaling_type() == config::Rope::SCALING_TYPE_LLAMA3 ? ScaledAsLlama3(rope, frequency)
                                                                                   : frequency);
  }
  return frequencies;
}

}  // namespace titan
