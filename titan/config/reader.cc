#include "titan/config/reader.h"

#include <optional>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "titan/config/config_error.h"
#include "titan/config/defaults.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/json_value.h"
#include "titan/config/locations.h"
#include "titan/config/overrides.h"
#include "titan/config/rules.h"
#include "titan/config/strict_walk.h"

namespace titan {
namespace {

// "8b.jsonnet:14: optimizer.lr: ..." or "--set optimizer.lr=-1: ..."
std::string Format(const ConfigError& error, const ReadOptions& options) {
  if (!error.override_text.empty()) {
    const std::string_view overridden = std::string_view(error.override_text).substr(0, error.override_text.find('='));
    const std::string path = error.path.empty() || error.path == overridden ? "" : absl::StrCat(error.path, ": ");
    return absl::StrCat("--set ", error.override_text, ": ", path, error.message);
  }
  std::string place = options.source_name;
  // What is missing may be written elsewhere, and replaced: its group is the place.
  const std::string_view path = error.path;
  const std::string_view group = path.substr(0, path.rfind('.') == path.npos ? 0 : path.rfind('.'));
  if (const auto location =
          FindInJsonnet(options.jsonnet_sources, options.source_name, error.is_missing ? group : path)) {
    place = absl::StrCat(location->file, ":", location->line);
  }
  return absl::StrCat(place, place.empty() ? "" : ": ", error.path, error.path.empty() ? "" : ": ", error.message);
}

// The override that put the value at `path` there, or "". Rules between fields do not know it.
std::string OverrideOf(std::string_view path, JsonValue& root) {
  JsonValue* value = &root;
  for (const std::string_view component : absl::StrSplit(path, '.', absl::SkipEmpty())) {
    size_t index;
    if (value->kind == JsonValue::Kind::kArray && absl::SimpleAtoi(component, &index) &&
        index < value->elements.size()) {
      value = &value->elements[index];
    } else {
      value = value->Find(component);
    }
    if (value == nullptr) return "";
  }
  return value->override_text;
}

absl::Status AsStatus(const ConfigErrors& errors, const ReadOptions& options) {
  std::string message;
  for (const ConfigError& error : errors.list()) {
    absl::StrAppend(&message, message.empty() ? "" : "\n", Format(error, options));
  }
  return absl::InvalidArgumentError(message);
}

}  // namespace

absl::StatusOr<config::Experiment> ReadExperiment(std::string_view json, const ReadOptions& options) {
  ConfigErrors errors;
  absl::StatusOr<JsonValue> root = ParseJsonValue(json);
  if (!root.ok()) {
    errors.Add("", std::string(root.status().message()));
    return AsStatus(errors, options);
  }
  const auto& type = *config::Experiment::descriptor();
  for (const std::string& text : options.overrides) ApplyOverride(text, type, *root, errors);
  config::Experiment experiment;
  StrictWalk(*root, experiment, errors);
  FillDefaults(experiment);
  ConfigErrors violations;
  CheckRules(experiment, errors, violations);
  for (const ConfigError& violation : violations.list()) {
    errors.Add(violation.path, violation.message, OverrideOf(violation.path, *root));
  }
  if (!errors.empty()) return AsStatus(errors, options);
  return experiment;
}

std::string CanonicalBytes(const config::Experiment& experiment) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    CHECK(experiment.SerializeToCodedStream(&coded));  // A string takes every byte.
  }  // The streams write the rest when they go.
  return bytes;
}

}  // namespace titan
