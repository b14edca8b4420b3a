#include "titan/metrics/chart.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<ChartPoint> Curve(int64_t count) {
  std::vector<ChartPoint> points;
  for (int64_t step = 1; step <= count; ++step) points.push_back({step, 1 + 10.0 / static_cast<double>(step)});
  return points;
}

TEST(AxisTicksTest, AreRound) {
  EXPECT_THAT(AxisTicks(0, 10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(AxisTicks(0.5, 2.2, 4), ElementsAre(0.5, 1.0, 1.5, 2.0));
  EXPECT_THAT(AxisTicks(-3, 3, 3), ElementsAre(-2, 0, 2));
}

TEST(ThinOutTest, FewPointsStay) { EXPECT_EQ(ThinOut(Curve(100), 50).size(), 100); }

TEST(ThinOutTest, PeaksStay) {
  std::vector<ChartPoint> points = Curve(100'000);
  points[54321].value = 1000;
  points[76543].value = -1000;
  points[11111].value = kNan;
  const std::vector<ChartPoint> thin = ThinOut(points, 600);
  EXPECT_LE(thin.size(), 1210);
  EXPECT_GE(thin.size(), 600);
  bool high = false, low = false, broken = false;
  for (size_t i = 0; i < thin.size(); ++i) {
    high |= thin[i].value == 1000 && thin[i].step == 54322;
    low |= thin[i].value == -1000;
    broken |= std::isnan(thin[i].value);
    EXPECT_TRUE(i == 0 || thin[i].step > thin[i - 1].step);
  }
  EXPECT_TRUE(high);
  EXPECT_TRUE(low);
  EXPECT_TRUE(broken);
  EXPECT_EQ(thin.front().step, 1);
  EXPECT_EQ(thin.back().step, 100'000);
}

TEST(LineChartTest, NoPoints) { EXPECT_THAT(LineChart({.title = "Loss"}, {}), HasSubstr("no values yet")); }

TEST(LineChartTest, OnlyNonFinitePoints) {
  EXPECT_THAT(LineChart({.title = "Loss"}, {{1, kNan}, {2, kNan}}), HasSubstr("no values yet"));
}

TEST(LineChartTest, OnePoint) {
  const std::string svg = LineChart({.title = "Loss"}, {{7, 3.25}});
  EXPECT_THAT(svg, HasSubstr("<circle"));
  EXPECT_THAT(svg, HasSubstr(">3.25<"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(LineChartTest, EqualValues) {
  for (const double value : {0.0, 1.0, -5.0, 1e-8}) {
    const std::string svg = LineChart({.title = "Loss", .from_zero = value == 1.0}, {{1, value}, {2, value}});
    EXPECT_THAT(svg, Not(HasSubstr("nan"))) << value;
    EXPECT_THAT(svg, Not(HasSubstr("inf"))) << value;
  }
}

TEST(LineChartTest, ANonFinitePointIsAGapAndACross) {
  const std::string svg = LineChart({.title = "Loss"}, {{1, 3}, {2, 2}, {3, kNan}, {4, 2}, {5, 1}});
  EXPECT_THAT(svg, HasSubstr("not finite at step 3"));
  const size_t path = svg.find("<path d=\"");
  const std::string line = svg.substr(path, svg.find("\" style", path) - path);
  EXPECT_EQ(std::count(line.begin(), line.end(), 'M'), 2);
  EXPECT_EQ(std::count(line.begin(), line.end(), 'L'), 2);
}

TEST(LineChartTest, AMeanOverManyPoints) {
  const std::string few = LineChart({.title = "Loss", .smooth = true}, Curve(30));
  const std::string many = LineChart({.title = "Loss", .smooth = true}, Curve(300));
  EXPECT_THAT(few, Not(HasSubstr("opacity:.32")));
  EXPECT_THAT(many, HasSubstr("opacity:.32"));
}

TEST(LineChartTest, AMillionPointsStaySmall) {
  EXPECT_LT(LineChart({.title = "Loss", .smooth = true}, Curve(1'000'000)).size(), 60'000);
}

TEST(LineChartTest, TheTitleIsEscaped) { EXPECT_THAT(LineChart({.title = "<b>"}, Curve(3)), Not(HasSubstr("<b>"))); }

}  // namespace
}  // namespace titan
