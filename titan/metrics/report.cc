#include "titan/metrics/report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/html.h"
#include "titan/base/quantities.h"
#include "titan/base/status_macros.h"
#include "titan/metrics/chart.h"
#include "titan/metrics/jsonl.h"
#include "titan/metrics/profile_panel.h"

namespace titan {
namespace {

using nlohmann::json;

std::string StateOf(const RunSession& session) {
  if (!session.end_time) return "running, or ended without a word";
  return absl::StrCat(session.ending, " (exit code ", session.exit_code.value_or(0), ")");
}

// The median: the first steps, and those with a checkpoint, are slower than the rest.
double Median(const std::vector<StepMetrics>& steps, double StepMetrics::* member) {
  std::vector<double> values;
  for (const StepMetrics& step : steps) {
    if (std::isfinite(step.*member)) values.push_back(step.*member);
  }
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

std::string Cards(const std::vector<StepMetrics>& steps, const std::vector<ValidationMetrics>& validations) {
  if (steps.empty()) return HtmlCards({{"steps", "0", "nothing logged yet"}});
  const StepMetrics& last = steps.back();
  double seconds = 0;
  int64_t memory = 0;
  for (const StepMetrics& step : steps) {
    seconds += step.step_seconds;
    memory = std::max(memory, step.memory_bytes);
  }
  const double mfu = Median(steps, &StepMetrics::mfu);
  std::vector<HtmlCard> cards = {
      {"loss", absl::StrFormat("%.4f", last.loss), absl::StrFormat("from %.4f", steps.front().loss)},
      {"steps", FormatCount(last.step), absl::StrCat(FormatDuration(seconds), " of training")},
      {"tokens", FormatCount(last.tokens_seen), absl::StrCat(FormatCount(last.tokens), " a step")},
      {"tokens/s per device", FormatCount(std::llround(Median(steps, &StepMetrics::tokens_per_second))),
       absl::StrFormat("median; %.2f TFLOP/s", Median(steps, &StepMetrics::tflops))},
      {"peak memory", FormatBytes(memory), ""}};
  if (!validations.empty()) {
    const ValidationMetrics& validation = validations.back();
    cards.insert(cards.begin() + 1, HtmlCard{"validation loss", absl::StrFormat("%.4f", validation.loss),
                                             absl::StrCat("after step ", FormatCount(validation.step))});
  }
  if (mfu > 0) cards.push_back({"MFU", absl::StrFormat("%.2f %%", 100 * mfu), "median"});
  return HtmlCards(cards);
}

std::string Chart(ChartOptions options, const std::vector<StepMetrics>& steps, double (*value)(const StepMetrics&),
                  bool wide = false) {
  std::vector<ChartPoint> points;
  points.reserve(steps.size());
  for (const StepMetrics& step : steps) points.push_back({step.step, value(step)});
  return absl::StrCat("<div class=\"panel", wide ? " wide" : "", "\">", LineChart(options, points), "</div>\n");
}

// Nothing for a run that does not validate.
std::string ValidationChart(const std::vector<ValidationMetrics>& validations) {
  if (validations.empty()) return "";
  std::vector<ChartPoint> points;
  for (const ValidationMetrics& validation : validations) points.push_back({validation.step, validation.loss});
  const ChartOptions options = {
      .title = "Validation loss", .unit = "mean over its labels", .color = "var(--second)", .width = 1080};
  return absl::StrCat("<div class=\"panel wide\">", LineChart(options, points), "</div>\n");
}

std::string Charts(const std::vector<StepMetrics>& steps, const std::vector<ValidationMetrics>& validations) {
  return absl::StrCat(
      "<h2>Curves</h2>\n<div class=\"charts\">\n",
      Chart(
          {.title = "Loss", .unit = "mean over valid tokens", .width = 1080, .height = 320, .smooth = true}, steps,
          [](const StepMetrics& step) { return step.loss; }, /*wide=*/true),
      ValidationChart(validations),
      Chart({.title = "Gradient norm", .unit = "before clipping", .color = "var(--third)", .smooth = true}, steps,
            [](const StepMetrics& step) { return step.grad_norm; }),
      Chart({.title = "Learning rate", .color = "var(--fourth)", .from_zero = true}, steps,
            [](const StepMetrics& step) { return step.lr; }),
      Chart({.title = "Throughput", .unit = "tokens/s per device", .color = "var(--second)", .from_zero = true}, steps,
            [](const StepMetrics& step) { return step.tokens_per_second; }),
      Chart({.title = "Memory", .unit = "GiB", .color = "var(--dim)", .from_zero = true}, steps,
            [](const StepMetrics& step) { return static_cast<double>(step.memory_bytes) / kBytesPerGib; }),
      "</div>\n");
}

std::string Panel(std::string_view heading, const std::vector<HtmlSetting>& settings) {
  if (settings.empty()) return "";
  return absl::StrCat("<h2>", EscapeHtml(heading), "</h2>\n<div class=\"panel\">", HtmlSettings(settings), "</div>\n");
}

std::string RunPanel(const RunRecord& record) {
  const RunSession& session = record.session;
  std::vector<HtmlSetting> settings;
  for (const auto& [name, value] : record.facts) settings.push_back({name, value});
  settings.push_back({"run id", session.digest});
  settings.push_back({"overrides", session.overrides.empty() ? "none" : absl::StrJoin(session.overrides, " ")});
  settings.push_back({"command", absl::StrJoin(session.command, " ")});
  settings.push_back({"host", absl::StrCat(session.host, ", process ", session.pid)});
  for (const auto& [name, value] : record.versions) settings.push_back({name, value});
  return Panel("Run", settings);
}

// A row for each start, when there were several.
std::string SessionsPanel(const RunRecord& record) {
  if (record.previous_sessions.empty()) return "";
  std::string html =
      "<h2>Starts</h2>\n<div class=\"panel\"><table>\n<tr><th>start</th><th>end</th><th>host</th><th>resumed after</th>"
      "<th>last step</th><th>how it ended</th></tr>\n";
  std::vector<RunSession> sessions = record.previous_sessions;
  sessions.push_back(record.session);
  for (const RunSession& session : sessions) {
    const auto step = [](const std::optional<int64_t>& value) { return value ? FormatCount(*value) : "-"; };
    absl::StrAppend(&html, "<tr><td>", EscapeHtml(session.start_time), "</td><td>",
                    EscapeHtml(session.end_time.value_or("-")), "</td><td>", EscapeHtml(session.host), "</td><td>",
                    step(session.resumed_from_step), "</td><td>", step(session.last_step), "</td><td>",
                    EscapeHtml(StateOf(session)), "</td></tr>\n");
  }
  return html + "</table></div>\n";
}

// Every field of the experiment by its path, "training.steps".
std::string ExperimentPanel(const RunRecord& record) {
  const json experiment = json::parse(record.experiment_json, nullptr, /*allow_exceptions=*/false);
  if (!experiment.is_object()) return "";
  std::vector<HtmlSetting> settings;
  const json fields = experiment.flatten();  // items() refers to it
  for (const auto& [pointer, value] : fields.items()) {
    std::string path = absl::StrReplaceAll(pointer, {{"/", "."}});
    if (absl::StartsWith(path, ".")) path.erase(0, 1);
    settings.push_back({path, value.is_string() ? value.get<std::string>() : value.dump()});
  }
  return Panel("Experiment", settings);
}

// Below the run directory.
std::string TracesFolder(const RunRecord& record) {
  const json experiment = json::parse(record.experiment_json, nullptr, /*allow_exceptions=*/false);
  const json::json_pointer field("/profiling/save_traces_folder");
  return experiment.is_object() && experiment.contains(field) ? experiment[field].get<std::string>()
                                                              : "profiling/traces";
}

class ReportSink : public MetricsSink {
 public:
  explicit ReportSink(std::string directory) : directory_(std::move(directory)), next_(absl::Now() + kFirst) {}

  absl::Status Log(const StepMetrics&) override { return absl::Now() < next_ ? absl::OkStatus() : Flush(); }
  absl::Status LogValidation(const ValidationMetrics&) override { return absl::OkStatus(); }  // with the next step

  absl::Status Flush() override {
    const absl::Time start = absl::Now();
    TITAN_RETURN_IF_ERROR(WriteReport(directory_));
    const absl::Time end = absl::Now();
    next_ = end + std::max(kLeast, 100 * (end - start));
    return absl::OkStatus();
  }

 private:
  static constexpr absl::Duration kFirst = absl::Seconds(10);
  static constexpr absl::Duration kLeast = absl::Seconds(30);

  std::string directory_;
  absl::Time next_;
};

}  // namespace

std::string RenderReport(const RunRecord& record, const std::vector<StepMetrics>& steps,
                         const std::vector<ValidationMetrics>& validations, std::string_view profile) {
  const RunSession& session = record.session;
  const std::string subtitle = absl::StrCat(StateOf(session), " · started ", session.start_time,
                                            session.end_time ? absl::StrCat(", ended ", *session.end_time) : "", " on ",
                                            session.host, " · ", session.digest.substr(0, 12));
  return HtmlPage(record.name, subtitle,
                  absl::StrCat(Cards(steps, validations), Charts(steps, validations), profile, RunPanel(record),
                               SessionsPanel(record), ExperimentPanel(record)));
}

absl::Status WriteReport(const std::string& run_directory) {
  TITAN_ASSIGN_OR_RETURN(const RunRecord record, ReadRunRecord(absl::StrCat(run_directory, "/run.json")));
  absl::StatusOr<LoggedMetrics> logged = ReadJsonl(absl::StrCat(run_directory, "/metrics.jsonl"));
  if (absl::IsNotFound(logged.status())) logged = LoggedMetrics();
  TITAN_RETURN_IF_ERROR(logged.status());
  const std::string profile = ProfilePanel(absl::StrCat(run_directory, "/", TracesFolder(record)));
  return WriteFileAtomically(absl::StrCat(run_directory, "/report.html"),
                             RenderReport(record, logged->steps, logged->validations, profile));
}

std::unique_ptr<MetricsSink> OpenReport(std::string run_directory) {
  return std::make_unique<ReportSink>(std::move(run_directory));
}

}  // namespace titan
