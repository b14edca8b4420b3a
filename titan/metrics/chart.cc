#include "titan/metrics/chart.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "titan/base/html.h"
#include "titan/base/quantities.h"

namespace titan {
namespace {

// Room around the plot for the title, tick labels and the last value.
constexpr double kLeft = 58, kRight = 14, kTop = 34, kBottom = 26;
constexpr int64_t kBuckets = 600;
constexpr int64_t kMaxCrosses = 40;

struct Axis {
  double low, high;    // values
  double start, size;  // pixels; size may be negative
  double At(double value) const { return start + size * (value - low) / (high - low); }
};

// Short, and distinct for ticks that are `spacing` apart; in one notation on an axis whose `largest` value is given.
std::string TickLabel(double value, double spacing, double largest) {
  if (value == 0) return "0";
  if (largest < 0.01) return absl::StrFormat("%.1e", value);
  const double size = std::max(std::abs(value), spacing);
  if (size >= 1e4) return absl::StrFormat("%.4g%s", value / (size >= 1e6 ? 1e6 : 1e3), size >= 1e6 ? "M" : "k");
  const int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(spacing) - 1e-9)), 0, 6);
  return absl::StrFormat("%.*f", digits, value);
}

std::string ValueLabel(double value) {
  const double size = std::abs(value);
  if (size != 0 && size < 1e-3) return absl::StrFormat("%.2e", value);
  if (size >= 1e4) return FormatCount(std::llround(value));
  return absl::StrFormat("%.4g", value);
}

std::optional<std::pair<double, double>> ValueRange(absl::Span<const ChartPoint> points, bool from_zero) {
  std::optional<std::pair<double, double>> range;
  for (const ChartPoint& point : points) {
    if (!std::isfinite(point.value)) continue;
    if (!range) range = {point.value, point.value};
    range = {std::min(range->first, point.value), std::max(range->second, point.value)};
  }
  if (!range) return std::nullopt;
  if (from_zero) range->first = std::min(range->first, 0.0);
  if (range->second - range->first <= 1e-9 * std::abs(range->second)) {
    const double margin = range->second == 0 ? 1 : 0.1 * std::abs(range->second);
    range = {range->first - margin, range->second + margin};
  }
  return range;
}

// An exponential mean whose memory grows with the number of points, corrected for its start.
std::vector<ChartPoint> Smooth(absl::Span<const ChartPoint> points) {
  const double keep = 1 - 1 / std::max(2.0, static_cast<double>(points.size()) / 40);
  std::vector<ChartPoint> smooth;
  double mean = 0, weight = 0;
  for (const ChartPoint& point : points) {
    if (!std::isfinite(point.value)) continue;
    mean = keep * mean + (1 - keep) * point.value;
    weight = keep * weight + (1 - keep);
    smooth.push_back({point.step, mean / weight});
  }
  return smooth;
}

std::string Path(absl::Span<const ChartPoint> points, const Axis& x, const Axis& y, const std::string& style) {
  std::string path;
  bool pen_down = false;
  for (const ChartPoint& point : points) {
    if (!std::isfinite(point.value)) {
      pen_down = false;
      continue;
    }
    absl::StrAppendFormat(&path, "%c%.1f %.1f", pen_down ? 'L' : 'M', x.At(static_cast<double>(point.step)),
                          y.At(point.value));
    pen_down = true;
  }
  return absl::StrCat("<path d=\"", path, "\" style=\"fill:none;stroke-linejoin:round;", style, "\"/>\n");
}

std::string Grid(const ChartOptions& options, const Axis& x, const Axis& y) {
  std::string svg;
  const double right = options.width - kRight;
  const std::vector<double> values = AxisTicks(y.low, y.high, 4);
  const double spacing = values.size() > 1 ? values[1] - values[0] : y.high - y.low;
  for (const double value : values) {
    absl::StrAppendFormat(&svg, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft, right,
                          y.At(value), y.At(value));
    absl::StrAppendFormat(&svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", kLeft - 8,
                          y.At(value) + 4, TickLabel(value, spacing, std::max(std::abs(y.low), std::abs(y.high))));
  }
  const std::vector<double> steps = AxisTicks(x.low, x.high, std::max(3, static_cast<int>(options.width / 110)));
  const double step_spacing = steps.size() > 1 ? steps[1] - steps[0] : 1;
  for (const double step : steps) {
    if (step != std::round(step)) continue;
    absl::StrAppendFormat(&svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x.At(step),
                          options.height - 6, TickLabel(step, step_spacing, x.high));
  }
  return svg;
}

std::string Crosses(const ChartOptions& options, absl::Span<const ChartPoint> points, const Axis& x) {
  std::string svg;
  int64_t drawn = 0;
  for (const ChartPoint& point : points) {
    if (std::isfinite(point.value) || ++drawn > kMaxCrosses) continue;
    absl::StrAppendFormat(
        &svg,
        "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" style=\"fill:var(--bad);font-weight:700\">"
        "&#215;<title>not finite at step %d</title></text>\n",
        x.At(static_cast<double>(point.step)), options.height - kBottom - 3, point.step);
  }
  return svg;
}

std::string Title(const ChartOptions& options, std::string_view last_value) {
  const std::string unit = options.unit.empty() ? "" : absl::StrCat(", ", options.unit);
  return absl::StrFormat(
      "<text class=\"title\" x=\"0\" y=\"16\">%s<tspan style=\"font-weight:400;fill:var(--dim)\">%s</tspan></text>"
      "<text class=\"title\" x=\"%.1f\" y=\"16\" text-anchor=\"end\" style=\"fill:%s\">%s</text>\n",
      EscapeHtml(options.title), EscapeHtml(unit), options.width - kRight, options.color, last_value);
}

}  // namespace

std::vector<ChartPoint> ThinOut(absl::Span<const ChartPoint> points, int64_t buckets) {
  if (static_cast<int64_t>(points.size()) <= 2 * buckets) return {points.begin(), points.end()};
  std::vector<ChartPoint> kept;
  const int64_t first = points.front().step;
  const int64_t span = points.back().step - first + 1;
  const auto bucket_of = [&](const ChartPoint& point) {
    return static_cast<int64_t>(static_cast<double>(point.step - first) / static_cast<double>(span) *
                                static_cast<double>(buckets));
  };
  for (auto begin = points.begin(); begin != points.end();) {
    const auto end =
        std::find_if(begin, points.end(), [&](const auto& point) { return bucket_of(point) != bucket_of(*begin); });
    auto low = end, high = end, broken = end;
    for (auto it = begin; it != end; ++it) {
      if (!std::isfinite(it->value)) {
        if (broken == end) broken = it;
        continue;
      }
      if (low == end || it->value < low->value) low = it;
      if (high == end || it->value > high->value) high = it;
    }
    std::vector<decltype(begin)> chosen = {low, high, broken};
    if (begin == points.begin()) chosen.push_back(begin);
    if (end == points.end()) chosen.push_back(end - 1);
    std::sort(chosen.begin(), chosen.end());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    for (const auto& it : chosen) {
      if (it != end) kept.push_back(*it);
    }
    begin = end;
  }
  return kept;
}

std::vector<double> AxisTicks(double low, double high, int count) {
  const double rough = (high - low) / count;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double digit = rough / power;
  const double spacing = power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
  std::vector<double> ticks;
  const int64_t first = std::llround(std::ceil(low / spacing - 1e-9));
  const int64_t last = std::llround(std::floor(high / spacing + 1e-9));
  for (int64_t i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * spacing);
  return ticks;
}

std::string LineChart(const ChartOptions& options, absl::Span<const ChartPoint> points) {
  std::string svg = absl::StrFormat("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n", options.width,
                                    options.height, EscapeHtml(options.title));
  const std::optional<std::pair<double, double>> range = ValueRange(points, options.from_zero);
  if (!range) {
    absl::StrAppendFormat(&svg, "%s<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">no values yet</text>\n</svg>\n",
                          Title(options, ""), options.width / 2, options.height / 2);
    return svg;
  }
  const double margin = 0.04 * (range->second - range->first);
  const bool at_zero = options.from_zero && range->first == 0;
  const Axis y = {range->first - (at_zero ? 0 : margin), range->second + margin, options.height - kBottom,
                  kTop + kBottom - options.height};
  const double first_step = static_cast<double>(points.front().step);
  const double last_step = std::max(static_cast<double>(points.back().step), first_step + 1);
  const Axis x = {first_step, last_step, kLeft, options.width - kLeft - kRight};

  const auto last_finite =
      std::find_if(points.rbegin(), points.rend(), [](const auto& point) { return std::isfinite(point.value); });
  absl::StrAppend(&svg, Title(options, ValueLabel(last_finite->value)), Grid(options, x, y));
  const std::vector<ChartPoint> raw = ThinOut(points, kBuckets);
  const std::string stroke = absl::StrCat("stroke:", options.color, ";");
  const bool smooth = options.smooth && points.size() >= 60;
  absl::StrAppend(&svg, Path(raw, x, y, stroke + (smooth ? "stroke-width:1;opacity:.32" : "stroke-width:1.7")));
  if (smooth) absl::StrAppend(&svg, Path(ThinOut(Smooth(points), kBuckets), x, y, stroke + "stroke-width:2.2"));
  absl::StrAppendFormat(&svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" style=\"fill:%s\"/>\n",
                        x.At(static_cast<double>(last_finite->step)), y.At(last_finite->value), options.color);
  absl::StrAppend(&svg, Crosses(options, raw, x), "</svg>\n");
  return svg;
}

}  // namespace titan
