#include "titan/metrics/console.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "titan/base/quantities.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

// ANSI colours, one for each part of a line, as torchtitan's.
constexpr char kRed[] = "\x1b[31m";
constexpr char kGreen[] = "\x1b[32m";
constexpr char kOrange[] = "\x1b[38;5;172m";
constexpr char kTurquoise[] = "\x1b[38;5;44m";
constexpr char kBlue[] = "\x1b[34m";
constexpr char kCyan[] = "\x1b[36m";
constexpr char kMagenta[] = "\x1b[35m";
constexpr char kYellow[] = "\x1b[33m";
constexpr char kBold[] = "\x1b[1m";
constexpr char kDim[] = "\x1b[2m";
constexpr char kReset[] = "\x1b[0m";

std::string Memory(int64_t bytes, int64_t capacity) {
  std::string text = absl::StrFormat("%5.2fGiB", static_cast<double>(bytes) / kBytesPerGib);
  if (capacity > 0) {
    absl::StrAppendFormat(&text, "(%.2f%%)", 100.0 * static_cast<double>(bytes) / static_cast<double>(capacity));
  }
  return text;
}

}  // namespace

ConsoleOptions ConsoleOptions::ForStdout(const config::Metrics& metrics, int64_t total_steps) {
  const char* no_color = std::getenv("NO_COLOR");
  const bool color =
      isatty(STDOUT_FILENO) == 1 && !metrics.disable_color_printing() && (no_color == nullptr || *no_color == '\0');
  return {.log_freq = metrics.log_freq(), .total_steps = total_steps, .memory_capacity_bytes = 0, .color = color};
}

Console::Console(std::ostream& out, ConsoleOptions options)
    : out_(out), options_(options), window_(options.log_freq, options.total_steps) {}

std::string Console::Paint(const char* color, std::string text) const {
  return options_.color ? absl::StrCat(color, text, kReset) : text;
}

void Console::PrintFields(const std::vector<std::pair<std::string, std::string>>& lines) {
  int width = 0;
  for (const auto& [label, value] : lines) width = std::max(width, static_cast<int>(label.size()));
  for (const auto& [label, value] : lines) {
    out_ << "  " << Paint(kDim, absl::StrFormat("%-*s", width, label)) << "  " << value << "\n";
  }
}

void Console::Header(std::string_view title, const std::vector<std::pair<std::string, std::string>>& lines) {
  out_ << Paint(kBold, std::string(title)) << "\n";
  PrintFields(lines);
  out_ << std::flush;
}

void Console::Note(std::string_view text) { out_ << text << std::endl; }

absl::Status Console::Log(const StepMetrics& metrics) {
  if (steps_ == 0) first_loss_ = metrics.loss;
  last_loss_ = metrics.loss;
  ++steps_;
  tokens_ += metrics.tokens;
  seconds_ += metrics.step_seconds;
  window_.Add(metrics);
  if (!window_.IsLogStep(metrics.step)) return absl::OkStatus();

  const StepMetrics shown = window_.Take();
  // Without a known peak the share is not 0, it is not known.
  const std::string mfu = shown.mfu > 0 ? absl::StrFormat("%.2f%%", 100 * shown.mfu) : "N/A";
  const int step_width = std::max(2, static_cast<int>(absl::StrCat(options_.total_steps).size()));
  const int64_t rate = std::isfinite(shown.tokens_per_second) ? std::llround(shown.tokens_per_second) : 0;
  out_ << Paint(kRed, absl::StrFormat("step: %*d", step_width, shown.step)) << "  "
       << Paint(kGreen, absl::StrFormat("loss: %8.5f", shown.loss)) << "  "
       << Paint(kOrange, absl::StrFormat("grad_norm: %7.4f", shown.grad_norm)) << "  "
       << Paint(kYellow, absl::StrFormat("lr: %.2e", shown.lr)) << "  "
       << Paint(kTurquoise, absl::StrCat("memory: ", Memory(shown.memory_bytes, options_.memory_capacity_bytes)))
       << "  " << Paint(kBlue, absl::StrCat("tps: ", FormatCount(rate))) << "  "
       << Paint(kCyan, absl::StrFormat("tflops: %.2f", shown.tflops)) << "  "
       << Paint(kMagenta, absl::StrCat("mfu: ", mfu));
  const int64_t steps_left = options_.total_steps - shown.step;
  if (steps_left > 0) {
    const double seconds_left = static_cast<double>(steps_left) * shown.step_seconds;
    out_ << "  " << Paint(kDim, absl::StrCat("left: ", FormatDuration(seconds_left)));
  }
  out_ << std::endl;
  return absl::OkStatus();
}

absl::Status Console::LogValidation(const ValidationMetrics& metrics) {
  const int step_width = std::max(2, static_cast<int>(absl::StrCat(options_.total_steps).size()));
  const int64_t rate = std::isfinite(metrics.tokens_per_second) ? std::llround(metrics.tokens_per_second) : 0;
  out_ << Paint(kYellow, absl::StrFormat("validate step: %*d", step_width, metrics.step)) << "  "
       << Paint(kGreen, absl::StrFormat("loss: %8.5f", metrics.loss)) << "  "
       << Paint(kTurquoise, absl::StrCat("memory: ", Memory(metrics.memory_bytes, options_.memory_capacity_bytes)))
       << "  " << Paint(kBlue, absl::StrCat("tps: ", FormatCount(rate))) << std::endl;
  return absl::OkStatus();
}

absl::Status Console::Flush() {
  out_.flush();
  return absl::OkStatus();
}

void Console::Summary(std::string_view ending, const std::vector<std::pair<std::string, std::string>>& lines) {
  std::string text = absl::StrCat(ending, ": ", FormatCount(steps_), steps_ == 1 ? " step, " : " steps, ",
                                  FormatCount(tokens_), " tokens in ", FormatDuration(seconds_));
  if (steps_ > 0) absl::StrAppendFormat(&text, ", loss %.5f to %.5f", first_loss_, last_loss_);
  out_ << Paint(kBold, text) << "\n";
  PrintFields(lines);
  out_ << std::flush;
}

}  // namespace titan
