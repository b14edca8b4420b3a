// plan --experiment EXPERIMENT.binpb [--name NAME] [--file NAME=FILE]... [--text T] [--json J] [--html H] [--proto P]:
// what an experiment costs, and whether it can run. Without an output the text goes to standard output.
//
// Exit code 2 for an experiment that cannot run (every reason on standard error; nothing is written) or a command line
// that is wrong, 1 for a file that cannot be written.

#include "titan/plan/plan.h"

#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr char kUsage[] =
    R"(usage: plan --experiment EXPERIMENT.binpb [--name NAME] [--file NAME=FILE]... [--text FILE] [--json FILE]
            [--html FILE] [--proto FILE]
  --experiment FILE  a resolved Experiment: `experiment_config resolve` and a bundle have it
  --name NAME        what the plan calls the experiment; the default is its description
  --file NAME=FILE   where a file is that the experiment names, such as a pipeline schedule; repeatable
Without --text, --json, --html or --proto the text goes to standard output.)";

// What the file holds that the experiment names, if it names one; `files` are pairs NAME=FILE.
absl::StatusOr<std::string> ReadScheduleCsv(const config::Experiment& experiment,
                                            const std::vector<std::string>& files) {
  const std::string& name = experiment.parallelism().pipeline_parallel_schedule_csv();
  if (name.empty()) return "";
  for (const std::string& file : files) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(file, absl::MaxSplits('=', 1));
    if (pair.first == name) return ReadFile(UserPath(pair.second));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("parallelism.pipeline_parallel_schedule_csv: ", name,
                   " is not among the files of this experiment; add it to `files` of its titan_experiment"));
}

absl::StatusOr<plan::Plan> MakePlan(const std::string& path, std::string name, const std::vector<std::string>& files) {
  TITAN_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(UserPath(path)));
  config::Experiment experiment;
  if (!experiment.ParseFromString(bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a serialized Experiment; make it with `experiment_config resolve`"));
  }
  if (name.empty()) name = experiment.description().empty() ? path : experiment.description();
  TITAN_ASSIGN_OR_RETURN(const std::string schedule_csv, ReadScheduleCsv(experiment, files));
  absl::StatusOr<plan::Plan> plan = BuildPlan(experiment, name, schedule_csv);
  if (!plan.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " cannot run:\n", plan.status().message()));
  }
  return plan;
}

absl::Status Run(const std::vector<std::string>& arguments) {
  std::string experiment, name;
  std::vector<std::string> files;
  struct Form {
    const char* flag;
    std::string (*make)(const plan::Plan&);
    std::string file;
  };
  std::vector<Form> forms = {
      {"text", PlanText, ""}, {"json", PlanJson, ""}, {"html", PlanHtml, ""}, {"proto", CanonicalBytes, ""}};
  FlagParser flags;
  flags.Text("experiment", &experiment);
  flags.Text("name", &name);
  flags.List("file", &files);
  for (Form& form : forms) flags.Path(form.flag, &form.file);
  flags.Require({"experiment"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));

  TITAN_ASSIGN_OR_RETURN(const plan::Plan plan, MakePlan(experiment, name, files));
  bool written = false;
  for (const Form& form : forms) {
    if (form.file.empty()) continue;
    TITAN_RETURN_IF_ERROR(WriteFileAtomically(form.file, form.make(plan)));
    written = true;
  }
  if (!written) std::cout << PlanText(plan);
  return absl::OkStatus();
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("plan", titan::kUsage, argc, argv, titan::Run); }
