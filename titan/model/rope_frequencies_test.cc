#include "titan/model/rope_frequencies.h"

#include <cmath>

#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

config::Rope Rope() {
  config::Rope rope;
  rope.set_theta(10000);
  rope.set_scaling_type(config::Rope::SCALING_TYPE_NONE);
  rope.set_scaling_factor(8);
  rope.set_low_freq_factor(1);
  rope.set_high_freq_factor(4);
  rope.set_original_max_seq_len(64);
  return rope;
}

TEST(RopeFrequenciesTest, PowersOfTheta) {
  const std::vector<double> frequencies = RopeFrequencies(Rope(), 8);
  ASSERT_EQ(frequencies.size(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(frequencies[i], std::pow(10.0, -i), 1e-15);
}

// Wavelengths 6.3, 62.8, 628, 6283 against 64 / 4 = 16 and 64 / 1: kept, interpolated, divided, divided.
TEST(RopeFrequenciesTest, Llama3Scaling) {
  config::Rope rope = Rope();
  rope.set_scaling_type(config::Rope::SCALING_TYPE_LLAMA3);
  const std::vector<double> frequencies = RopeFrequencies(rope, 8);
  EXPECT_EQ(frequencies[0], 1);
  // 64 / 62.8319 = 1.018592 turns: (1.018592 - 1) / 3 = 0.006197 of it is kept.
  const double kept = (64 * 0.1 / (2 * M_PI) - 1) / 3;
  EXPECT_NEAR(frequencies[1], 0.1 * ((1 - kept) / 8 + kept), 1e-8);
  EXPECT_NEAR(frequencies[2], 0.01 / 8, 1e-10);
  EXPECT_NEAR(frequencies[3], 0.001 / 8, 1e-11);
}

// The fp32 values of transformers. With them the float64 trace of //tools:train_trace_test is met to 2e-15, with the
// doubles of the same formula to 2e-8.
TEST(RopeFrequenciesTest, Llama3ScalingHasTheBitsOfTransformers) {
  config::Rope rope = Rope();
  rope.set_scaling_type(config::Rope::SCALING_TYPE_LLAMA3);
  rope.set_theta(500000);
  const std::vector<double> expected = {
      1, 0x1.32c2cp-6, 0x1.9cd9d2p-10, 0x1.72ba42p-13, 0x1.4ce6ecp-16, 0x1.2aefa4p-19};
  EXPECT_EQ(RopeFrequencies(rope, 12), expected);
}

}  // namespace
}  // namespace titan
