#include "titan/train/flags.h"

#include <functional>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/config/schema.h"

namespace titan {

const char kTrainerHelp[] = R"(Trains the experiment of a bundle.

  titan_trainer --bundle DIR [flags]

  --bundle DIR                what to run
  --out DIR                   run directory (default: outputs/<experiment>/<UTC time>)
  --set path=value            changes a field of the experiment, such as training.steps=20; repeatable
  --resume auto|must|never    auto (default) continues from the newest checkpoint in --out if there is one; must fails
                              without one; never starts from the beginning
  --nproc N                   local processes (default: what the experiment's mesh needs)
  --dry_run                   prints what would run, and stops
  --help                      prints this

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 out of memory, 4 loss or gradients not finite, 75 stopped
by a signal (start it again with the same --out to continue).
)";

namespace {

absl::Status SetResume(const std::string& value, TrainerFlags& flags) {
  const std::map<std::string, Resume> values = {
      {"auto", Resume::kAuto}, {"must", Resume::kMust}, {"never", Resume::kNever}};
  const auto found = values.find(value);
  if (found == values.end()) {
    return absl::InvalidArgumentError(absl::StrCat("--resume ", value, ": takes auto, must or never"));
  }
  flags.resume = found->second;
  return absl::OkStatus();
}

absl::Status SetNproc(const std::string& value, TrainerFlags& flags) {
  if (!absl::SimpleAtoi(value, &flags.nproc) || flags.nproc < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--nproc ", value, ": takes a number of processes, 1 or more"));
  }
  return absl::OkStatus();
}

using Setter = std::function<absl::Status(const std::string&, TrainerFlags&)>;

const std::map<std::string, Setter>& ValueFlags() {
  static const auto* const flags = new std::map<std::string, Setter>{
      {"bundle",
       [](const std::string& value, TrainerFlags& flags) {
         flags.bundle = UserPath(value);
         return absl::OkStatus();
       }},
      {"out",
       [](const std::string& value, TrainerFlags& flags) {
         flags.out = UserPath(value);
         return absl::OkStatus();
       }},
      {"set",
       [](const std::string& value, TrainerFlags& flags) {
         flags.overrides.push_back(value);
         return absl::OkStatus();
       }},
      {"resume", SetResume},
      {"nproc", SetNproc},
  };
  return *flags;
}

absl::Status UnknownFlag(const std::string& argument, const std::string& name) {
  std::vector<std::string> known = {"dry_run", "help"};
  for (const auto& [flag, setter] : ValueFlags()) known.push_back(flag);
  const std::string nearest = Nearest(name, known);
  return absl::InvalidArgumentError(absl::StrCat(argument, ": unknown flag; ",
                                                 nearest.empty()
                                                     ? absl::StrCat("known are --", absl::StrJoin(known, ", --"))
                                                     : absl::StrCat("did you mean --", nearest, "?")));
}

}  // namespace

absl::StatusOr<TrainerFlags> ParseTrainerFlags(const std::vector<std::string>& arguments) {
  TrainerFlags flags;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "-h") {
      flags.help = true;
      continue;
    }
    if (!absl::StartsWith(argument, "--")) {
      return absl::InvalidArgumentError(absl::StrCat(argument, ": expected a flag; see --help"));
    }
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(2, equals == std::string::npos ? equals : equals - 2);
    if (name == "dry_run" || name == "help") {
      if (equals != std::string::npos) return absl::InvalidArgumentError(absl::StrCat("--", name, " takes no value"));
      (name == "help" ? flags.help : flags.dry_run) = true;
      continue;
    }
    const auto flag = ValueFlags().find(name);
    if (flag == ValueFlags().end()) return UnknownFlag(argument, name);
    if (equals == std::string::npos && i + 1 == arguments.size()) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value; see --help"));
    }
    const std::string value = equals == std::string::npos ? arguments[++i] : argument.substr(equals + 1);
    if (value.empty()) return absl::InvalidArgumentError(absl::StrCat("--", name, ": the value is empty"));
    TITAN_RETURN_IF_ERROR(flag->second(value, flags));
  }
  if (!flags.help && flags.bundle.empty()) {
    return absl::InvalidArgumentError(
        "--bundle is missing: the directory of a bundle, as bazel build :x.bundle makes it");
  }
  return flags;
}

}  // namespace titan
