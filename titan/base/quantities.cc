#include "titan/base/quantities.h"

#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"

namespace titan {
namespace {

std::string ScaledBy1000(double value, absl::Span<const char* const> prefixes) {
  size_t prefix = 0;
  // 999.5 would be shown as "1e+03".
  while (std::abs(value) >= 999.5 && prefix + 1 < prefixes.size()) {
    value /= 1000;
    ++prefix;
  }
  return absl::StrFormat("%.3g%s", value, prefixes[prefix]);
}

}  // namespace

std::string FormatCount(int64_t count) {
  const std::string digits = absl::StrCat(count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool after_a_digit = i > 0 && digits[i - 1] != '-';
    if (after_a_digit && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

std::string FormatBytes(int64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (std::abs(value) >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrCat(bytes, " B") : absl::StrFormat("%.2f %s", value, kUnits[unit]);
}

std::string FormatShortCount(int64_t count) {
  constexpr std::array kPrefixes = {"", " K", " M", " B", " T", " quadrillion"};
  return ScaledBy1000(static_cast<double>(count), kPrefixes);
}

std::string FormatScaled(double value) {
  constexpr std::array kPrefixes = {" ", " K", " M", " G", " T", " P", " E", " Z", " Y"};
  return ScaledBy1000(value, kPrefixes);
}

std::string FormatDuration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds < 0.9995) return absl::StrFormat("%.0f ms", seconds * 1000);
  if (seconds < 9.95) return absl::StrFormat("%.1f s", seconds);
  if (seconds < 59.5) return absl::StrFormat("%.0f s", seconds);
  // Rounded once, to the smaller of the two units that are shown; so 3599.7 s is 1h00m and never 59m60s.
  const int64_t whole = std::llround(seconds);
  if (whole < 3600) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  const int64_t minutes = std::llround(seconds / 60);
  if (minutes < 24 * 60) return absl::StrFormat("%dh%02dm", minutes / 60, minutes % 60);
  const int64_t hours = std::llround(seconds / 3600);
  return absl::StrFormat("%sd%02dh", FormatCount(hours / 24), hours % 24);
}

}  // namespace titan
