#include "titan/metrics/jsonl.h"

#include <limits>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/metrics/append_file.h"

namespace titan {
namespace {

using nlohmann::json;

// The keys, in the order of a line; see README.md.
template <typename Metrics>
struct Key {
  const char* name;
  std::variant<int64_t Metrics::*, double Metrics::*> member;
};
constexpr Key<StepMetrics> kStepKeys[] = {
    {"step", &StepMetrics::step},
    {"loss", &StepMetrics::loss},
    {"grad_norm", &StepMetrics::grad_norm},
    {"lr", &StepMetrics::lr},
    {"tokens", &StepMetrics::tokens},
    {"tokens_seen", &StepMetrics::tokens_seen},
    {"step_seconds", &StepMetrics::step_seconds},
    {"data_seconds", &StepMetrics::data_seconds},
    {"tokens_per_second", &StepMetrics::tokens_per_second},
    {"tflops", &StepMetrics::tflops},
    {"mfu", &StepMetrics::mfu},
    {"memory_bytes", &StepMetrics::memory_bytes},
};
constexpr char kValidationLoss[] = "validation_loss";
constexpr Key<ValidationMetrics> kValidationKeys[] = {
    {"step", &ValidationMetrics::step},
    {kValidationLoss, &ValidationMetrics::loss},
    {"validation_tokens", &ValidationMetrics::tokens},
    {"validation_seconds", &ValidationMetrics::seconds},
    {"validation_tokens_per_second", &ValidationMetrics::tokens_per_second},
    {"memory_bytes", &ValidationMetrics::memory_bytes},
};

// One line without its end. Doubles have as many digits as it takes to read the same value back.
template <typename Metrics, size_t N>
std::string ToFields(const Metrics& metrics, const Key<Metrics> (&keys)[N]) {
  std::string fields;
  for (const Key<Metrics>& key : keys) {
    const auto value_of = [&](auto member) { return json(metrics.*member).dump(); };
    absl::StrAppend(&fields, fields.empty() ? "\"" : ", \"", key.name, "\": ", std::visit(value_of, key.member));
  }
  return fields;
}

std::string ToLine(const StepMetrics& metrics) {
  std::string line = absl::StrCat("{", ToFields(metrics, kStepKeys));
  if (!metrics.bytes_sent.empty()) absl::StrAppend(&line, ", \"bytes_sent\": ", json(metrics.bytes_sent).dump());
  if (metrics.checkpoint_seconds > 0) {
    absl::StrAppend(&line, ", \"checkpoint_seconds\": ", json(metrics.checkpoint_seconds).dump());
  }
  if (metrics.write_seconds > 0) {
    absl::StrAppend(&line, ", \"write_seconds\": ", json(metrics.write_seconds).dump());
  }
  if (metrics.failed_saves > 0) absl::StrAppend(&line, ", \"failed_saves\": ", metrics.failed_saves);
  return line + "}\n";
}

template <typename Metrics, size_t N>
absl::StatusOr<Metrics> FromFields(const json& object, const Key<Metrics> (&keys)[N]) {
  Metrics metrics;
  for (const Key<Metrics>& key : keys) {
    const auto found = object.find(key.name);
    if (found == object.end()) continue;  // written before the key existed
    if (const auto* integer = std::get_if<int64_t Metrics::*>(&key.member)) {
      if (!found->is_number_integer()) return absl::DataLossError(absl::StrCat(key.name, " is not an integer"));
      metrics.** integer = found->template get<int64_t>();
    } else {
      if (!found->is_number() && !found->is_null()) return absl::DataLossError(absl::StrCat(key.name, " is no number"));
      metrics.*std::get<double Metrics::*>(key.member) =
          found->is_null() ? std::numeric_limits<double>::quiet_NaN() : found->template get<double>();
    }
  }
  if (metrics.step < 1) return absl::DataLossError("it has no step");
  return metrics;
}

using Line = std::variant<StepMetrics, ValidationMetrics>;

int64_t StepOf(const Line& line) {
  return std::visit([](const auto& metrics) { return metrics.step; }, line);
}

absl::StatusOr<Line> FromLine(std::string_view line) {
  const json object = json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return absl::DataLossError("not a JSON object");
  if (object.contains(kValidationLoss)) {
    TITAN_ASSIGN_OR_RETURN(Line metrics, FromFields(object, kValidationKeys));
    return metrics;
  }
  TITAN_ASSIGN_OR_RETURN(StepMetrics metrics, FromFields(object, kStepKeys));
  if (const auto sent = object.find("bytes_sent"); sent != object.end()) {
    for (const auto& [axis, bytes] : sent->items()) {
      if (!bytes.is_number_integer()) return absl::DataLossError("bytes_sent holds what is not an integer");
      metrics.bytes_sent[axis] = bytes.get<int64_t>();
    }
  }
  if (const auto held_up = object.find("checkpoint_seconds"); held_up != object.end() && held_up->is_number()) {
    metrics.checkpoint_seconds = held_up->get<double>();
  }
  if (const auto wrote = object.find("write_seconds"); wrote != object.end() && wrote->is_number()) {
    metrics.write_seconds = wrote->get<double>();
  }
  if (const auto failed = object.find("failed_saves"); failed != object.end() && failed->is_number_integer()) {
    metrics.failed_saves = failed->get<int64_t>();
  }
  return metrics;
}

// Calls `use(line, metrics or error)` for each complete line, until it returns false.
template <typename Use>
void ForEachLine(std::string_view text, const Use& use) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return;
    if (!use(text.substr(0, end + 1), FromLine(text.substr(0, end)))) return;
    text.remove_prefix(end + 1);
  }
}

class JsonlSink : public MetricsSink {
 public:
  explicit JsonlSink(AppendFile file) : file_(std::move(file)) {}

  absl::Status Log(const StepMetrics& metrics) override { return file_.Append(ToLine(metrics)); }
  absl::Status LogValidation(const ValidationMetrics& metrics) override {
    return file_.Append(absl::StrCat("{", ToFields(metrics, kValidationKeys), "}\n"));
  }
  absl::Status Flush() override { return file_.Sync(); }

 private:
  AppendFile file_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsSink>> OpenJsonl(const std::string& path, int64_t resume_step) {
  std::string kept;
  if (resume_step > 0) {
    const absl::StatusOr<std::string> text = ReadFile(path);
    if (!text.ok() && !absl::IsNotFound(text.status())) return text.status();
    if (text.ok()) {
      ForEachLine(*text, [&](std::string_view line, const absl::StatusOr<Line>& metrics) {
        if (!metrics.ok() || StepOf(*metrics) > resume_step) return false;
        kept += line;
        return true;
      });
    }
  }
  TITAN_RETURN_IF_ERROR(WriteFileAtomically(path, kept));
  TITAN_ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(path));
  return std::make_unique<JsonlSink>(std::move(file));
}

absl::StatusOr<LoggedMetrics> ReadJsonl(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  LoggedMetrics logged;
  absl::Status status;
  int64_t number = 0;
  ForEachLine(text, [&](std::string_view, const absl::StatusOr<Line>& metrics) {
    ++number;
    if (!metrics.ok()) {
      status = absl::DataLossError(absl::StrCat(path, ": line ", number, ": ", metrics.status().message()));
      return false;
    }
    if (const auto* step = std::get_if<StepMetrics>(&*metrics)) {
      logged.steps.push_back(*step);
    } else {
      logged.validations.push_back(std::get<ValidationMetrics>(*metrics));
    }
    return true;
  });
  if (!status.ok()) return status;
  return logged;
}

}  // namespace titan
