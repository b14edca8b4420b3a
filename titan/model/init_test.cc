#include "titan/model/init.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/equal.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

ParameterSpec Parameter(Init init, std::vector<int64_t> shape = {1000, 1001}) {
  return {.name = "layers.0.attention.wq.weight", .shape = std::move(shape), .init = init};
}

constexpr Init kNormal = {.kind = Init::Kind::kNormal, .stddev = 1, .bound = 0};
constexpr Init kTruncated = {.kind = Init::Kind::kTruncatedNormal, .stddev = 0.5, .bound = 1.5};

std::vector<float> Draw(const ParameterSpec& parameter, uint64_t seed, int64_t begin, int64_t end) {
  std::vector<float> values(end - begin);
  InitParameter(parameter, seed, begin, end, values.data());
  return values;
}

// The known answers that come with Random123, the authors' own library.
TEST(InitTest, PhiloxKnownAnswers) {
  using testing::ElementsAre;
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(InitTest, QuantileInvertsTheDistribution) {
  for (double tail = 0.5; tail > 1.2e-10; tail *= 0.93) {
    const double q = 0.5 - tail;
    const double z = NormalQuantile(q);
    EXPECT_NEAR(0.5 * std::erfc(z / std::sqrt(2.0)) / (0.5 - q), 1.0, 2e-13) << tail;
    EXPECT_EQ(NormalQuantile(-q), -z);
  }
}

TEST(InitTest, CentralProbabilityIsErf) {
  for (double x = 0; x < 12; x += 0.125) {
    EXPECT_NEAR(CentralProbability(x), std::erf(x / std::sqrt(2.0)), 1e-13) << x;
  }
}

// Element i by the definition in the header, step by step.
TEST(InitTest, FollowsItsDefinition) {
  const ParameterSpec parameter = Parameter(kNormal);
  const uint64_t seed = 0x123456789abcdef0;
  const uint64_t name = 0x2c403a3125427ab5;  // FNV-1a-64 of the name
  const std::vector<float> values = Draw(parameter, seed, 0, 100000);
  for (const uint32_t i : {0u, 1u, 2u, 3u, 255u, 256u, 1027u, 99999u}) {
    const auto words = Philox4x32({i / 4, 0, static_cast<uint32_t>(name), static_cast<uint32_t>(name >> 32)},
                                  {0x9abcdef0, 0x12345678});
    const double u = (words[i % 4] + 0.5) / 4294967296.0;
    EXPECT_EQ(values[i], static_cast<float>(NormalQuantile(u - 0.5))) << i;
  }
}

// Golden bits, from a second implementation in Python: they may never change, or no old run could be repeated.
TEST(InitTest, GoldenValues) {
  const auto bits = [](const std::vector<float>& values) {
    std::vector<uint32_t> result;
    for (const float value : values) result.push_back(std::bit_cast<uint32_t>(value));
    return result;
  };
  EXPECT_THAT(bits(Draw(Parameter(kNormal), 42, 0, 4)),
              testing::ElementsAre(0x39fb49ea, 0x3f44ecb1, 0x3f5b579d, 0xbf1f5c4c));
  EXPECT_THAT(bits(Draw(Parameter(kTruncated), 7, 123456, 123460)),
              testing::ElementsAre(0xbedf1e89, 0x3f115435, 0xbec12b49, 0xbe236183));
}

TEST(InitTest, PiecesAndThreadsDoNotMatter) {
  const ParameterSpec parameter = Parameter(kTruncated);
  const int64_t size = parameter.num_elements();
  at::set_num_threads(1);
  const std::vector<float> whole = Draw(parameter, 42, 0, size);
  at::set_num_threads(3);
  EXPECT_EQ(whole, Draw(parameter, 42, 0, size));
  const std::vector<int64_t> cuts = {0, 1, 3, 255, 256, 257, 1000, 77777, 1000000, size};
  std::vector<float> joined;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    const std::vector<float> piece = Draw(parameter, 42, cuts[i], cuts[i + 1]);
    joined.insert(joined.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(whole, joined);
}

struct Moments {
  double mean = 0, variance = 0, kurtosis = 0, largest = 0;
};

Moments MomentsOf(const std::vector<float>& values) {
  Moments m;
  for (const double x : values) {
    m.mean += x;
    m.variance += x * x;
    m.kurtosis += x * x * x * x;
    m.largest = std::max(m.largest, std::abs(x));
  }
  const double n = static_cast<double>(values.size());
  m.mean /= n;
  m.variance /= n;
  m.kurtosis = m.kurtosis / n / (m.variance * m.variance);
  return m;
}

// 1 001 000 values: the standard error of the mean is 0.001, of the variance 0.0014, of the kurtosis 0.005.
TEST(InitTest, NormalStatistics) {
  const Moments m = MomentsOf(Draw(Parameter(kNormal), 1, 0, 1001000));
  EXPECT_NEAR(m.mean, 0, 0.005);
  EXPECT_NEAR(m.variance, 1, 0.007);
  EXPECT_NEAR(m.kurtosis, 3, 0.025);
  EXPECT_GT(m.largest, 4.0);
}

// Truncated at 3 standard deviations the variance is 0.97333 of the normal's.
TEST(InitTest, TruncatedStatistics) {
  const Moments m = MomentsOf(Draw(Parameter(kTruncated), 1, 0, 1001000));
  EXPECT_NEAR(m.mean, 0, 0.0025);
  EXPECT_NEAR(m.variance, 0.25 * 0.97333, 0.0018);
  EXPECT_LE(m.largest, 1.5);
  EXPECT_GT(m.largest, 1.49);
}

TEST(InitTest, SeedsAndNamesGiveOtherValues) {
  ParameterSpec parameter = Parameter(kNormal);
  const std::vector<float> values = Draw(parameter, 1, 0, 64);
  EXPECT_NE(values, Draw(parameter, 2, 0, 64));
  EXPECT_NE(values, Draw(parameter, uint64_t{1} << 32, 0, 64));
  parameter.name = "layers.1.attention.wq.weight";
  EXPECT_NE(values, Draw(parameter, 1, 0, 64));
}

TEST(InitTest, OnesAndTensor) {
  const ParameterSpec parameter = Parameter({.kind = Init::Kind::kOnes}, {5});
  EXPECT_EQ(Draw(parameter, 1, 1, 4), std::vector<float>(3, 1.0f));
  const ParameterSpec matrix = Parameter(kNormal, {3, 5});
  const at::Tensor value = InitialValue(matrix, 9);
  EXPECT_EQ(value.sizes(), at::IntArrayRef({3, 5}));
  EXPECT_EQ(value[1][2].item<float>(), Draw(matrix, 9, 7, 8)[0]);
}

// Sizes about Philox counters and the kernel's blocks, one whose last counter is cut, and one of many counters.
TEST(InitTest, GpuDrawsTheSameBits) {
  if (!at::globalContext().hasCUDA()) GTEST_SKIP() << "no GPU";
  const uint64_t seed = 0x123456789abcdef0;
  const std::vector<std::vector<int64_t>> shapes = {{0}, {1}, {3}, {1023}, {1025}, {1000, 1001}, {2999, 2001}};
  for (const Init& init : {kNormal, kTruncated, Init{.kind = Init::Kind::kOnes}}) {
    for (const std::vector<int64_t>& shape : shapes) {
      const ParameterSpec parameter = Parameter(init, shape);
      const at::Tensor drawn = InitialValue(parameter, seed, at::kCUDA), expected = InitialValue(parameter, seed);
      EXPECT_TRUE(drawn.is_cuda());
      EXPECT_TRUE(at::equal(drawn.cpu().view(at::kInt), expected.view(at::kInt)))
          << parameter.num_elements() << " elements";
    }
  }
}

}  // namespace
}  // namespace titan
