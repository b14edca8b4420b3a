// plan --experiment EXPERIMENT.binpb [--name NAME] [--text T] [--json J] [--html H] [--proto P]: what an experiment
// costs, and whether it can run. Without an output the text goes to standard output.
//
// Exit code 2 for an experiment that cannot run (every reason on standard error; nothing is written) or a command line
// that is wrong, 1 for a file that cannot be written.

#include "titan/plan/plan.h"

#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr char kUsage[] =
    R"(usage: plan --experiment EXPERIMENT.binpb [--name NAME] [--text FILE] [--json FILE] [--html FILE] [--proto FILE]
  --experiment FILE  a resolved Experiment: `experiment_config resolve` and a bundle have it
  --name NAME        what the plan calls the experiment; the default is its description
Without --text, --json, --html or --proto the text goes to standard output.)";

absl::Status UsageError(std::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("plan: ", problem, "\n", kUsage));
}

using Flags = std::map<std::string, std::string>;

// Flags take their value as `--flag value` or `--flag=value`.
absl::StatusOr<Flags> ParseFlags(int argc, char** argv) {
  Flags flags = {{"--experiment", ""}, {"--name", ""}, {"--text", ""}, {"--json", ""}, {"--html", ""}, {"--proto", ""}};
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    const auto flag = flags.find(argument.substr(0, equals));
    if (flag == flags.end()) return UsageError(absl::StrCat(argument, ": no such flag"));
    if (equals != std::string::npos) {
      flag->second = argument.substr(equals + 1);
    } else if (++i == argc) {
      return UsageError(absl::StrCat(argument, " needs a value"));
    } else {
      flag->second = argv[i];
    }
  }
  if (flags["--experiment"].empty()) return UsageError("--experiment is missing");
  return flags;
}

absl::StatusOr<plan::Plan> MakePlan(const std::string& path, std::string name) {
  TITAN_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(UserPath(path)));
  config::Experiment experiment;
  if (!experiment.ParseFromString(bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a serialized Experiment; make it with `experiment_config resolve`"));
  }
  if (name.empty()) name = experiment.description().empty() ? path : experiment.description();
  absl::StatusOr<plan::Plan> plan = BuildPlan(experiment, name);
  if (!plan.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " cannot run:\n", plan.status().message()));
  }
  return plan;
}

absl::Status Run(int argc, char** argv) {
  TITAN_ASSIGN_OR_RETURN(Flags flags, ParseFlags(argc, argv));
  TITAN_ASSIGN_OR_RETURN(const plan::Plan plan, MakePlan(flags["--experiment"], flags["--name"]));
  const std::map<std::string, std::function<std::string(const plan::Plan&)>> forms = {
      {"--text", PlanText}, {"--json", PlanJson}, {"--html", PlanHtml}, {"--proto", CanonicalBytes}};
  bool written = false;
  for (const auto& [flag, form] : forms) {
    if (flags[flag].empty()) continue;
    TITAN_RETURN_IF_ERROR(WriteFileAtomically(UserPath(flags[flag]), form(plan)));
    written = true;
  }
  if (!written) std::cout << PlanText(plan);
  return absl::OkStatus();
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  const absl::Status status = titan::Run(argc, argv);
  if (status.ok()) return 0;
  std::cerr << status.message() << "\n";
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status) ? 2 : 1;
}
