// A curve over the steps of a run, as an inline SVG that follows the style of titan/base/html.h.
//
//   const std::string svg = LineChart({.title = "loss", .smooth = true}, points);

#ifndef TITAN_METRICS_CHART_H_
#define TITAN_METRICS_CHART_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace titan {

struct ChartPoint {
  int64_t step = 0;
  double value = 0;  // NaN and infinity are drawn as a red cross at the bottom, and leave a gap in the line
};

struct ChartOptions {
  std::string title = {};
  std::string unit = {};  // after the title
  const char* color = "var(--accent)";
  double width = 540;  // of the view box
  double height = 240;
  bool smooth = false;     // draws a running mean over the raw values when there are many
  bool from_zero = false;  // the value axis starts at 0
};

// Steps must rise. Without any finite value it says so in the chart's place.
std::string LineChart(const ChartOptions& options, absl::Span<const ChartPoint> points);

// At most about 2 * `buckets` of the points: of each bucket of steps the least and the greatest value, so that peaks
// stay; the first, the last and non-finite ones (the first of a bucket) too.
std::vector<ChartPoint> ThinOut(absl::Span<const ChartPoint> points, int64_t buckets);

// Round values (1, 2 or 5 times a power of ten apart) that cover [low, high] in about `count` intervals; low < high.
std::vector<double> AxisTicks(double low, double high, int count);

}  // namespace titan

#endif  // TITAN_METRICS_CHART_H_
