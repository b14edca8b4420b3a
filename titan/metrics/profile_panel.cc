#include "titan/metrics/profile_panel.h"

#include <filesystem>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "titan/base/file.h"
#include "titan/base/html.h"
#include "titan/metrics/trace_breakdown.h"

namespace titan {
namespace {

std::string Row(std::string_view label, double seconds, double span) {
  const double percent = 100 * seconds / span;
  return absl::StrFormat(
      "<tr><td>%s</td><td>%.2f ms</td><td>%.1f %%</td><td style=\"width:50%%;text-align:left\"><div "
      "style=\"height:12px;width:%.1f%%;background:var(--second)\"></div></td></tr>\n",
      EscapeHtml(label), 1e3 * seconds, percent, percent);
}

std::string Table(const TraceBreakdown& breakdown) {
  std::string html = "<table>\n<tr><th>rank 0's GPU</th><th>time</th><th>share</th><th></th></tr>\n";
  for (const auto& [kind, seconds] : breakdown.by_kind) {
    if (kind != KernelKind::kCommunication) absl::StrAppend(&html, Row(NameOf(kind), seconds, breakdown.span));
  }
  if (breakdown.communication > 0) {
    absl::StrAppend(&html, Row("communication, exposed", breakdown.exposed(), breakdown.span),
                    Row("communication, hidden behind kernels", breakdown.hidden, breakdown.span));
  }
  return absl::StrCat(html, Row("idle", breakdown.idle, breakdown.span),
                      absl::StrFormat("<tr class=\"total\"><td>first kernel to last</td><td>%.2f ms</td><td></td>"
                                      "<td></td></tr>\n</table>\n",
                                      1e3 * breakdown.span));
}

}  // namespace

std::string ProfilePanel(const std::string& traces_folder) {
  const std::string path = NewestTrace(traces_folder);
  if (path.empty()) return "";
  const absl::StatusOr<std::string> trace = ReadFile(path);
  const absl::StatusOr<TraceBreakdown> breakdown =
      trace.ok() ? BreakDownTrace(*trace) : absl::StatusOr<TraceBreakdown>(trace.status());
  const std::string name = std::filesystem::path(path).parent_path().filename();
  return absl::StrCat(
      "<h2>Where the time went</h2>\n<div class=\"panel\"><p>", EscapeHtml(name), "</p>\n",
      breakdown.ok() ? Table(*breakdown) : absl::StrCat("<p>", EscapeHtml(breakdown.status().message()), "</p>\n"),
      "</div>\n");
}

}  // namespace titan
