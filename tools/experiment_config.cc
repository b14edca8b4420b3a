// experiment_config COMMAND ...: the strict configuration reader as a program.
//
//   check   --json EXPERIMENT.json                         reports all errors
//   resolve --json EXPERIMENT.json --out EXPERIMENT.binpb  the same, and writes the canonical Experiment
//   print   EXPERIMENT                                     all fields, defaults filled in, as JSON
//   diff    LEFT RIGHT                                     the fields in which two experiments differ
//   schema  --out SCHEMA.libsonnet                         all fields, for the Jsonnet library
//
// Exit code 2 for a configuration or command line that is wrong, 1 for a file that cannot be written.

#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/config/diff.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/config/resolved_json.h"
#include "titan/config/schema_jsonnet.h"

namespace titan {
namespace {

constexpr char kUsage[] =
    R"(usage: experiment_config check --json EXPERIMENT.json [INPUT FLAGS]
       experiment_config resolve --json EXPERIMENT.json --out EXPERIMENT.binpb [--resolved_json OUT.json] [INPUT FLAGS]
       experiment_config print EXPERIMENT
       experiment_config diff LEFT RIGHT
       experiment_config schema --out SCHEMA.libsonnet
EXPERIMENT, LEFT and RIGHT: a .json that Jsonnet made, a .binpb, or a bundle directory.
Input flags:
  --source_name NAME      what messages call the configuration; the default is the path of its JSON
  --jsonnet_source FILE   a Jsonnet file behind the JSON, for lines in messages; repeatable
  --set PATH=VALUE        an override, such as training.steps=20; repeatable)";

struct CommandLine {
  std::string command;
  std::vector<std::string> inputs;  // positional
  std::string json;
  std::string source_name;
  std::string out;
  std::string resolved_json;
  std::vector<std::string> jsonnet_sources;
  std::vector<std::string> overrides;
};

absl::Status UsageError(std::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("experiment_config: ", problem, "\n", kUsage));
}

// Flags take their value as `--flag value` or `--flag=value`.
absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& arguments) {
  CommandLine line;
  const std::map<std::string, std::function<void(std::string)>> flags = {
      {"--json", [&](std::string value) { line.json = std::move(value); }},
      {"--source_name", [&](std::string value) { line.source_name = std::move(value); }},
      {"--out", [&](std::string value) { line.out = std::move(value); }},
      {"--resolved_json", [&](std::string value) { line.resolved_json = std::move(value); }},
      {"--jsonnet_source", [&](std::string value) { line.jsonnet_sources.push_back(std::move(value)); }},
      {"--set", [&](std::string value) { line.overrides.push_back(std::move(value)); }},
  };
  if (arguments.empty()) return UsageError("no command");
  line.command = arguments[0];
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!absl::StartsWith(argument, "--")) {
      line.inputs.push_back(argument);
      continue;
    }
    const size_t equals = argument.find('=');
    const auto flag = flags.find(argument.substr(0, equals));
    if (flag == flags.end()) return UsageError(absl::StrCat(argument, ": no such flag"));
    if (equals != std::string::npos) {
      flag->second(argument.substr(equals + 1));
    } else if (++i == arguments.size()) {
      return UsageError(absl::StrCat(argument, " needs a value"));
    } else {
      flag->second(arguments[i]);
    }
  }
  return line;
}

absl::StatusOr<config::Experiment> ReadJsonInput(const CommandLine& line) {
  if (line.json.empty() || !line.inputs.empty()) {
    return UsageError(absl::StrCat(line.command, " takes its configuration with --json"));
  }
  TITAN_ASSIGN_OR_RETURN(const std::string json, ReadFile(UserPath(line.json)));
  ReadOptions options;
  options.source_name = line.source_name.empty() ? line.json : line.source_name;
  options.overrides = line.overrides;
  for (const std::string& path : line.jsonnet_sources) {
    TITAN_ASSIGN_OR_RETURN(options.jsonnet_sources[path], ReadFile(UserPath(path)));
  }
  return ReadExperiment(json, options);
}

// Of any of the forms that `print` and `diff` take.
absl::StatusOr<config::Experiment> ReadAnyForm(const std::string& path) {
  if (absl::EndsWith(path, ".json")) {
    TITAN_ASSIGN_OR_RETURN(const std::string json, ReadFile(UserPath(path)));
    return ReadExperiment(json, {.source_name = path});
  }
  const std::string file = absl::EndsWith(path, ".binpb") ? path : absl::StrCat(path, "/experiment.binpb");
  TITAN_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(UserPath(file)));
  config::Experiment experiment;
  if (!experiment.ParseFromString(bytes)) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": not a serialized Experiment; make it with `resolve`"));
  }
  return experiment;
}

absl::Status Check(const CommandLine& line) { return ReadJsonInput(line).status(); }

absl::Status Resolve(const CommandLine& line) {
  if (line.out.empty()) return UsageError("resolve needs --out");
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ReadJsonInput(line));
  TITAN_RETURN_IF_ERROR(WriteFileAtomically(UserPath(line.out), CanonicalBytes(experiment)));
  if (line.resolved_json.empty()) return absl::OkStatus();
  return WriteFileAtomically(UserPath(line.resolved_json), ResolvedJson(experiment));
}

absl::Status Print(const CommandLine& line) {
  if (line.inputs.size() != 1) return UsageError("print takes one experiment");
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ReadAnyForm(line.inputs[0]));
  std::cout << ResolvedJson(experiment);
  return absl::OkStatus();
}

absl::Status PrintDiff(const CommandLine& line) {
  if (line.inputs.size() != 2) return UsageError("diff takes two experiments");
  TITAN_ASSIGN_OR_RETURN(const config::Experiment left, ReadAnyForm(line.inputs[0]));
  TITAN_ASSIGN_OR_RETURN(const config::Experiment right, ReadAnyForm(line.inputs[1]));
  const std::vector<FieldDifference> differences = Diff(left, right);
  for (const FieldDifference& field : differences) {
    std::cout << field.path << ": " << field.left << " -> " << field.right << "\n";
  }
  if (differences.empty()) std::cout << "no field differs\n";
  return absl::OkStatus();
}

absl::Status WriteSchema(const CommandLine& line) {
  if (line.out.empty()) return UsageError("schema needs --out");
  return WriteFileAtomically(UserPath(line.out), SchemaJsonnet());
}

absl::Status Run(const std::vector<std::string>& arguments) {
  TITAN_ASSIGN_OR_RETURN(const CommandLine line, ParseCommandLine(arguments));
  if (line.command == "check") return Check(line);
  if (line.command == "resolve") return Resolve(line);
  if (line.command == "print") return Print(line);
  if (line.command == "diff") return PrintDiff(line);
  if (line.command == "schema") return WriteSchema(line);
  return UsageError(absl::StrCat(line.command, ": no such command"));
}

// Input that is wrong or not there is the user's to fix; anything else is the machine's.
int ExitCode(const absl::Status& status) {
  if (status.ok()) return 0;
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status) ? 2 : 1;
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  const absl::Status status = titan::Run({argv + 1, argv + argc});
  if (!status.ok()) std::cerr << status.message() << "\n";
  return titan::ExitCode(status);
}
