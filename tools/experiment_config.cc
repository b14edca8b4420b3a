// experiment_config COMMAND ...: the strict configuration reader as a program.
//
//   check   --json EXPERIMENT.json                         reports all errors
//   resolve --json EXPERIMENT.json --out EXPERIMENT.binpb  the same, and writes the canonical Experiment
//   print   EXPERIMENT                                     all fields, defaults filled in, as JSON
//   diff    LEFT RIGHT                                     the fields in which two experiments differ
//   schema  --out SCHEMA.libsonnet                         all fields, for the Jsonnet library
//
// Exit code 2 for a configuration or command line that is wrong, 1 for a file that cannot be written.

#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
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

// What `check` and `resolve` read.
struct JsonInput {
  std::string json;
  std::string source_name;
  std::vector<std::string> jsonnet_sources;
  std::vector<std::string> overrides;

  void Declare(FlagParser& flags) {
    flags.Text("json", &json);
    flags.Text("source_name", &source_name);
    flags.List("jsonnet_source", &jsonnet_sources);
    flags.List("set", &overrides);
  }
};

absl::StatusOr<config::Experiment> ReadJsonInput(const JsonInput& input) {
  TITAN_ASSIGN_OR_RETURN(const std::string json, ReadFile(UserPath(input.json)));
  ReadOptions options;
  options.source_name = input.source_name.empty() ? input.json : input.source_name;
  options.overrides = input.overrides;
  for (const std::string& path : input.jsonnet_sources) {
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

absl::Status Check(const std::vector<std::string>& arguments) {
  JsonInput input;
  FlagParser flags;
  input.Declare(flags);
  flags.Require({"json"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  return ReadJsonInput(input).status();
}

absl::Status Resolve(const std::vector<std::string>& arguments) {
  JsonInput input;
  std::string out, resolved_json;
  FlagParser flags;
  input.Declare(flags);
  flags.Path("out", &out);
  flags.Path("resolved_json", &resolved_json);
  flags.Require({"json", "out"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));

  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ReadJsonInput(input));
  TITAN_RETURN_IF_ERROR(WriteFileAtomically(out, CanonicalBytes(experiment)));
  if (resolved_json.empty()) return absl::OkStatus();
  return WriteFileAtomically(resolved_json, ResolvedJson(experiment));
}

absl::Status Print(const std::vector<std::string>& arguments) {
  std::vector<std::string> inputs;
  FlagParser flags;
  flags.Positional(&inputs);
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  if (inputs.size() != 1) return absl::InvalidArgumentError("print takes one experiment; see --help");
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ReadAnyForm(inputs[0]));
  std::cout << ResolvedJson(experiment);
  return absl::OkStatus();
}

absl::Status PrintDiff(const std::vector<std::string>& arguments) {
  std::vector<std::string> inputs;
  FlagParser flags;
  flags.Positional(&inputs);
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  if (inputs.size() != 2) return absl::InvalidArgumentError("diff takes two experiments; see --help");
  TITAN_ASSIGN_OR_RETURN(const config::Experiment left, ReadAnyForm(inputs[0]));
  TITAN_ASSIGN_OR_RETURN(const config::Experiment right, ReadAnyForm(inputs[1]));
  const std::vector<FieldDifference> differences = Diff(left, right);
  for (const FieldDifference& field : differences) {
    std::cout << field.path << ": " << field.left << " -> " << field.right << "\n";
  }
  if (differences.empty()) std::cout << "no field differs\n";
  return absl::OkStatus();
}

absl::Status WriteSchema(const std::vector<std::string>& arguments) {
  std::string out;
  FlagParser flags;
  flags.Path("out", &out);
  flags.Require({"out"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  return WriteFileAtomically(out, SchemaJsonnet());
}

absl::Status Run(const std::vector<std::string>& arguments) {
  return RunCommand(
      {{"check", Check}, {"resolve", Resolve}, {"print", Print}, {"diff", PrintDiff}, {"schema", WriteSchema}},
      arguments);
}

}  // namespace
}  // namespace titan

// No name: the reader's messages begin with the file that they are about.
int main(int argc, char** argv) { return titan::ToolMain("", titan::kUsage, argc, argv, titan::Run); }
