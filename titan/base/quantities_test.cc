#include "titan/base/quantities.h"

#include <limits>

#include "gtest/gtest.h"

namespace titan {
namespace {

TEST(QuantitiesTest, Count) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(8'030'261'248), "8,030,261,248");
  EXPECT_EQ(FormatCount(-999), "-999");
  EXPECT_EQ(FormatCount(-123456), "-123,456");
}

TEST(QuantitiesTest, Bytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.00 KiB");
  EXPECT_EQ(FormatBytes(123'456'789), "117.74 MiB");
  EXPECT_EQ(FormatBytes(int64_t{3} << 40), "3.00 TiB");
}

TEST(QuantitiesTest, ShortCount) {
  EXPECT_EQ(FormatShortCount(0), "0");
  EXPECT_EQ(FormatShortCount(999), "999");
  EXPECT_EQ(FormatShortCount(6'163'712), "6.16 M");
  EXPECT_EQ(FormatShortCount(405'853'388'800), "406 B");
}

TEST(QuantitiesTest, Scaled) {
  EXPECT_EQ(FormatScaled(0), "0 ");
  EXPECT_EQ(FormatScaled(71'585'280), "71.6 M");
  EXPECT_EQ(FormatScaled(5.79e10), "57.9 G");
  EXPECT_EQ(FormatScaled(999.7), "1 K");
  EXPECT_EQ(FormatScaled(3.8e25), "38 Y");
}

TEST(QuantitiesTest, Duration) {
  EXPECT_EQ(FormatDuration(0.0851), "85 ms");
  EXPECT_EQ(FormatDuration(8.06), "8.1 s");
  EXPECT_EQ(FormatDuration(42.4), "42 s");
  EXPECT_EQ(FormatDuration(59.7), "1m00s");
  EXPECT_EQ(FormatDuration(232), "3m52s");
  EXPECT_EQ(FormatDuration(3599.7), "1h00m");
  EXPECT_EQ(FormatDuration(7500), "2h05m");
  EXPECT_EQ(FormatDuration(4 * 86400 + 3 * 3600), "4d03h");
  EXPECT_EQ(FormatDuration(std::numeric_limits<double>::infinity()), "?");
  EXPECT_EQ(FormatDuration(-1), "?");
}

}  // namespace
}  // namespace titan
