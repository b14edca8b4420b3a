#include "tests/convergence/curve.h"

#include <cmath>
#include <string>

#include "gtest/gtest.h"
#include "titan/base/file.h"

namespace titan {
namespace {

TEST(Compare, FindsTheLargestRelativeDifference) {
  const Comparison comparison = Compare({8, 4, 2}, {8, 4.04, 2.1}).value();
  EXPECT_NEAR(comparison.largest, 0.05, 1e-12);
  EXPECT_EQ(comparison.step, 3);
  EXPECT_EQ(Compare({8, 4}, {8, 4}).value().largest, 0);
}

TEST(Compare, ANonFiniteLossIsInfinitelyFar) {
  EXPECT_TRUE(std::isinf(Compare({8, 4}, {8, std::nan("")}).value().largest));
}

TEST(Compare, RefusesOtherLengths) { EXPECT_FALSE(Compare({8, 4}, {8}).ok()); }

TEST(Curve, IsWrittenAndReadExactly) {
  const std::string path = ::testing::TempDir() + "/curve.json";
  const Curve curve = {7.625123456789012, 1.0 / 3};
  ASSERT_TRUE(WriteCurve(path, curve).ok());
  EXPECT_EQ(ReadCurve(path).value(), curve);
}

TEST(Curve, RefusesWhatIsNotOne) {
  const std::string path = ::testing::TempDir() + "/not_a_curve.json";
  for (const std::string text :
       {"", "[1]", "{\"loss\": 1}", "{\"loss\": [\"1\"]}", "{\"loss\": [-1]}", "{\"los\": [1]}"}) {
    ASSERT_TRUE(WriteFileAtomically(path, text).ok());
    EXPECT_FALSE(ReadCurve(path).ok()) << text;
  }
}

}  // namespace
}  // namespace titan
