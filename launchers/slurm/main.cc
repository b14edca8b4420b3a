// The tool of :x.slurm (tools/build_defs/slurm.bzl). See kUsage.

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "launchers/slurm/job_script.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "tools/bundle/bundle.h"
#include "tools/bundle/writer.h"

namespace titan {
namespace {

constexpr char kUsage[] = R"(usage, by build actions:
  slurm script --name NAME --json EXPERIMENT.json --out SCRIPT
and by a user, through `bazel run :x.slurm -- [FLAG...]`:
  --out DIR          run directory (default: outputs/<experiment>/<UTC time>), on a file system that all machines share
  --bundles DIR      where bundles are installed, each once, by digest (default: outputs/bundles); shared, too
  --set path=value   changes a field of the experiment; repeatable
  --resume auto|must|never
  --allow_digest_change  continues from a checkpoint of another run id
  --sbatch=OPTION    goes to sbatch, such as --sbatch=--partition=gpu; repeatable
  --dry_run          prints the script and the command, and does nothing)";

struct Submission {
  std::string name, bundle, out, bundles, resume = "auto";
  std::vector<std::string> overrides, sbatch;
  bool allow_digest_change = false;
  bool dry_run = false;
};

absl::Status Script(const std::vector<std::string>& arguments) {
  std::string name, json_file, out;
  FlagParser flags;
  flags.Text("name", &name);
  flags.Text("json", &json_file);
  flags.Text("out", &out);
  flags.Require({"name", "json", "out"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  TITAN_ASSIGN_OR_RETURN(const std::string json, ReadFile(json_file));
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ReadExperiment(json));
  return WriteFileAtomically(out, JobScript(name, experiment));
}

absl::StatusOr<Submission> ParseSubmission(const std::vector<std::string>& arguments) {
  Submission submission;
  FlagParser flags;
  flags.Text("name", &submission.name);      // by the rule
  flags.Text("bundle", &submission.bundle);  // by the rule, from where the tool runs
  flags.Path("out", &submission.out);
  flags.Path("bundles", &submission.bundles);
  flags.List("set", &submission.overrides);
  flags.Choice<std::string>("resume", {{"auto", "auto"}, {"must", "must"}, {"never", "never"}}, &submission.resume);
  flags.Switch("allow_digest_change", &submission.allow_digest_change);
  flags.List("sbatch", &submission.sbatch);
  flags.Switch("dry_run", &submission.dry_run);
  flags.Require({"name", "bundle"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  if (submission.out.empty()) {
    const std::string time = absl::FormatTime("%Y-%m-%dT%H-%M-%SZ", absl::Now(), absl::UTCTimeZone());
    submission.out = UserPath(absl::StrCat("outputs/", submission.name, "/", time));
  }
  if (submission.bundles.empty()) submission.bundles = UserPath("outputs/bundles");
  if (submission.out.find_first_of("%\\") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("--out ", submission.out, ": Slurm does not take a path with % or \\ as it is; choose another"));
  }
  return submission;
}

// sbatch, its options, the script, the script's arguments.
std::vector<std::string> Command(const Submission& submission, const std::string& script, const std::string& bundle) {
  std::vector<std::string> command = {"sbatch", absl::StrCat("--output=", submission.out, "/logs/slurm-%j.log")};
  command.insert(command.end(), submission.sbatch.begin(), submission.sbatch.end());
  for (const std::string& word : {script, bundle, submission.out, absl::StrCat("--resume=", submission.resume)}) {
    command.push_back(word);
  }
  if (submission.allow_digest_change) command.emplace_back("--allow_digest_change");
  for (const std::string& value : submission.overrides) command.push_back(absl::StrCat("--set=", value));
  return command;
}

absl::Status Execute(std::vector<std::string> command) {
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  std::cout << std::flush;
  execvp(words[0], words.data());
  if (errno == ENOENT) {
    return absl::NotFoundError("there is no sbatch here; run this on a machine of the cluster that submits jobs");
  }
  return SystemError(errno, "cannot execute", words[0]);
}

absl::Status Submit(const std::vector<std::string>& arguments) {
  TITAN_ASSIGN_OR_RETURN(const Submission submission, ParseSubmission(arguments));
  TITAN_ASSIGN_OR_RETURN(const std::string json, ReadFile(submission.bundle + "/experiment.json"));
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment,
                         ReadExperiment(json, {.source_name = "experiment.json", .overrides = submission.overrides}));
  TITAN_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(submission.bundle));
  const std::string text = JobScript(submission.name, experiment);
  const std::string script = submission.out + "/job.sbatch";
  const std::string installed = submission.bundles + "/" + manifest.digest;
  const std::vector<std::string> command = Command(submission, script, installed);
  if (submission.dry_run) {
    std::cout << text << "\n# Would be submitted so:\n#";
    for (const std::string& word : command) std::cout << " " << ShellQuoted(word);
    std::cout << "\n";
    return absl::OkStatus();
  }
  if (!std::filesystem::exists(installed)) {
    TITAN_RETURN_IF_ERROR(MakeDirectories(submission.bundles));
    TITAN_RETURN_IF_ERROR(Install(submission.bundle, /*thin=*/false, installed));
  }
  TITAN_RETURN_IF_ERROR(MakeDirectories(submission.out + "/logs"));
  TITAN_RETURN_IF_ERROR(WriteFileAtomically(script, text));
  std::cout << "bundle    " << installed << "\noutput    " << submission.out << "\nprogress  tail -F "
            << ShellQuoted(submission.out + "/logs/rank-0.log") << "\n";
  return Execute(command);
}

absl::Status Run(const std::vector<std::string>& arguments) {
  return RunCommand({{"script", Script}, {"submit", Submit}}, arguments);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("slurm", titan::kUsage, argc, argv, titan::Run); }
