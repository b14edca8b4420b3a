#include "titan/metrics/run_record.h"

#include <unistd.h>

#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

using nlohmann::json;

std::string UtcNow() { return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone()); }

std::string HostName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

template <typename T>
json OrNull(const std::optional<T>& value) {
  return value.has_value() ? json(*value) : json(nullptr);
}

json ToJson(const RunSession& session) {
  return {{"digest", session.digest},
          {"overrides", session.overrides},
          {"command", session.command},
          {"host", session.host},
          {"pid", session.pid},
          {"start_time", session.start_time},
          {"end_time", OrNull(session.end_time)},
          {"exit_code", OrNull(session.exit_code)},
          {"ending", session.ending},
          {"resumed_from_step", OrNull(session.resumed_from_step)},
          {"last_step", OrNull(session.last_step)},
          {"final_loss", OrNull(session.final_loss)}};
}

// Throws json::exception for a value that is missing or of another type.
template <typename T>
std::optional<T> GetOptional(const json& object, const char* key) {
  const json& value = object.at(key);
  return value.is_null() ? std::nullopt : std::optional<T>(value.get<T>());
}

RunSession SessionFromJson(const json& object) {
  RunSession session;
  session.digest = object.at("digest").get<std::string>();
  session.overrides = object.at("overrides").get<std::vector<std::string>>();
  session.command = object.at("command").get<std::vector<std::string>>();
  session.host = object.at("host").get<std::string>();
  session.pid = object.at("pid").get<int64_t>();
  session.start_time = object.at("start_time").get<std::string>();
  session.end_time = GetOptional<std::string>(object, "end_time");
  session.exit_code = GetOptional<int>(object, "exit_code");
  session.ending = object.at("ending").get<std::string>();
  session.resumed_from_step = GetOptional<int64_t>(object, "resumed_from_step");
  session.last_step = GetOptional<int64_t>(object, "last_step");
  session.final_loss = GetOptional<double>(object, "final_loss");
  return session;
}

RunRecord RecordFromJson(const json& object) {
  RunRecord record;
  record.name = object.at("name").get<std::string>();
  record.session = SessionFromJson(object);
  for (const json& session : object.at("previous_sessions")) {
    record.previous_sessions.push_back(SessionFromJson(session));
  }
  if (const auto lineage = object.find("lineage"); lineage != object.end()) {  // not in older records
    for (const json& entry : *lineage) {
      record.lineage.push_back({entry.at("step").get<int64_t>(), entry.at("digest").get<std::string>(),
                                entry.at("path").get<std::string>()});
    }
  }
  record.versions = object.at("versions").get<std::map<std::string, std::string>>();
  record.facts = object.at("facts").get<std::map<std::string, std::string>>();
  record.experiment_json = object.at("experiment").dump();
  return record;
}

}  // namespace

RunRecord StartRunRecord(std::string name, std::string digest, std::vector<std::string> command) {
  RunRecord record;
  record.name = std::move(name);
  record.session.digest = std::move(digest);
  record.session.command = std::move(command);
  record.session.host = HostName();
  record.session.pid = getpid();
  record.session.start_time = UtcNow();
  return record;
}

void FinishRunRecord(RunRecord& record, int exit_code, std::string ending) {
  record.session.end_time = UtcNow();
  record.session.exit_code = exit_code;
  record.session.ending = std::move(ending);
}

absl::Status ContinueRunRecord(const std::string& path, RunRecord& record) {
  absl::StatusOr<RunRecord> before = ReadRunRecord(path);
  if (absl::IsNotFound(before.status())) return absl::OkStatus();
  if (!before.ok()) return before.status();
  record.previous_sessions = std::move(before->previous_sessions);
  record.previous_sessions.push_back(std::move(before->session));
  record.lineage.insert(record.lineage.begin(), before->lineage.begin(), before->lineage.end());
  return absl::OkStatus();
}

absl::Status WriteRunRecord(const std::string& path, const RunRecord& record) {
  json object = ToJson(record.session);
  object["name"] = record.name;
  object["previous_sessions"] = json::array();
  for (const RunSession& session : record.previous_sessions) object["previous_sessions"].push_back(ToJson(session));
  object["lineage"] = json::array();
  for (const RunAncestor& ancestor : record.lineage) {
    object["lineage"].push_back({{"step", ancestor.step}, {"digest", ancestor.digest}, {"path", ancestor.path}});
  }
  object["versions"] = record.versions;
  object["facts"] = record.facts;
  const std::string& experiment = record.experiment_json;
  object["experiment"] = experiment.empty() ? json::object() : json::parse(experiment, nullptr, false);
  if (object["experiment"].is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": the experiment to be recorded is not JSON"));
  }
  // Host names and commands are bytes; what is not UTF-8 is replaced.
  return WriteFileAtomically(path, object.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

absl::StatusOr<RunRecord> ReadRunRecord(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  try {
    return RecordFromJson(json::parse(text));
  } catch (const json::exception& error) {
    return absl::DataLossError(absl::StrCat(path, ": not a run record: ", error.what()));
  }
}

}  // namespace titan
