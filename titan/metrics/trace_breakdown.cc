#include "titan/metrics/trace_breakdown.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace titan {
namespace {

// Stretches of time, in microseconds.
using Interval = std::pair<double, double>;

// Sorted, and without overlap.
std::vector<Interval> Union(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end());
  std::vector<Interval> merged;
  for (const auto& [begin, end] : intervals) {
    if (merged.empty() || begin > merged.back().second) {
      merged.emplace_back(begin, end);
    } else {
      merged.back().second = std::max(merged.back().second, end);
    }
  }
  return merged;
}

double Length(const std::vector<Interval>& disjoint) {
  double sum = 0;
  for (const auto& [begin, end] : disjoint) sum += end - begin;
  return sum;
}

constexpr double kMicrosecond = 1e-6;

}  // namespace

const char* NameOf(KernelKind kind) {
  switch (kind) {
    case KernelKind::kGemm:
      return "matrix products";
    case KernelKind::kAttention:
      return "attention";
    case KernelKind::kCommunication:
      return "communication";
    case KernelKind::kMemoryCopy:
      return "copies and fills";
    case KernelKind::kOptimizer:
      return "optimizer";
    case KernelKind::kOther:
      return "other kernels";
  }
  return "";
}

KernelKind KindOfKernel(std::string_view name) {
  const auto has_one_of = [&](std::initializer_list<std::string_view> words) {
    return std::any_of(words.begin(), words.end(),
                       [&](std::string_view word) { return absl::StrContainsIgnoreCase(name, word); });
  };
  if (has_one_of({"nccl"})) return KernelKind::kCommunication;
  if (has_one_of({"attention", "flash", "fmha", "sdpa"})) return KernelKind::kAttention;
  if (has_one_of({"gemm", "nvjet", "cutlass", "xmma", "splitK"})) return KernelKind::kGemm;
  if (has_one_of({"memcpy", "memset"})) return KernelKind::kMemoryCopy;
  if (has_one_of({"adamw", "adam_w"})) return KernelKind::kOptimizer;
  return KernelKind::kOther;
}

absl::StatusOr<TraceBreakdown> BreakDownTrace(std::string_view trace) {
  const nlohmann::json json = nlohmann::json::parse(trace, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("traceEvents") || !json["traceEvents"].is_array()) {
    return absl::InvalidArgumentError(
        "not a trace in Chrome's format: an object with a list \"traceEvents\" is expected");
  }
  TraceBreakdown result;
  std::vector<Interval> compute, communication, both;
  for (const nlohmann::json& event : json["traceEvents"]) {
    if (!event.is_object() || event.value("ph", "") != "X") continue;
    const std::string category = event.value("cat", "");
    if (category != "kernel" && category != "gpu_memcpy" && category != "gpu_memset") continue;
    if (!event.contains("ts") || !event["ts"].is_number() || !event.contains("dur") || !event["dur"].is_number()) {
      return absl::InvalidArgumentError(absl::StrCat("an event without ts and dur: ", event.dump()));
    }
    const double begin = event["ts"], duration = event["dur"];
    const KernelKind kind = KindOfKernel(event.value("name", ""));
    result.by_kind[kind] += duration * kMicrosecond;
    both.emplace_back(begin, begin + duration);
    (kind == KernelKind::kCommunication ? communication : compute).push_back(both.back());
  }
  if (both.empty()) return absl::InvalidArgumentError("the trace holds no kernel of a GPU");
  both = Union(std::move(both));
  const double busy = Length(both);
  const double span = both.back().second - both.front().first;
  const double compute_time = Length(Union(std::move(compute)));
  const double communication_time = Length(Union(std::move(communication)));
  result.span = span * kMicrosecond;
  result.compute = compute_time * kMicrosecond;
  result.communication = communication_time * kMicrosecond;
  result.hidden = (compute_time + communication_time - busy) * kMicrosecond;
  result.idle = (span - busy) * kMicrosecond;
  return result;
}

std::string NewestTrace(const std::string& traces_folder) {
  constexpr std::string_view kPrefix = "iteration_";
  int64_t newest = -1;
  std::string path;
  std::error_code error;  // no folder: no trace
  for (const auto& entry : std::filesystem::directory_iterator(traces_folder, error)) {
    const std::string name = entry.path().filename();
    int64_t step = 0;
    if (!absl::StartsWith(name, kPrefix) || !absl::SimpleAtoi(name.substr(kPrefix.size()), &step)) continue;
    const std::filesystem::path trace = entry.path() / "rank0_trace.json";
    if (step > newest && std::filesystem::exists(trace)) newest = step, path = trace;
  }
  return path;
}

std::string FormatBreakdown(const TraceBreakdown& breakdown) {
  std::string text;
  const auto line = [&](std::string_view label, double seconds) {
    absl::StrAppendFormat(&text, "%-24s %10.3f ms %6.1f %%\n", label, 1e3 * seconds, 100 * seconds / breakdown.span);
  };
  line("whole", breakdown.span);
  line("computing", breakdown.compute);
  line("exposed communication", breakdown.exposed());
  line("idle", breakdown.idle);
  for (const auto& [kind, seconds] : breakdown.by_kind) line(absl::StrCat("  ", NameOf(kind)), seconds);
  if (breakdown.communication > 0) {
    absl::StrAppendFormat(&text, "of communication %.1f %% is hidden behind computing\n",
                          100 * breakdown.hidden_share());
  }
  return text;
}

}  // namespace titan
