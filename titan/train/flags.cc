#include "titan/train/flags.h"

#include "titan/base/flags.h"
#include "titan/base/status_macros.h"

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

absl::StatusOr<TrainerFlags> ParseTrainerFlags(const std::vector<std::string>& arguments) {
  TrainerFlags flags;
  flags.help = WantsHelp(arguments);
  if (flags.help) return flags;
  FlagParser parser;
  parser.Path("bundle", &flags.bundle);
  parser.Path("out", &flags.out);
  parser.List("set", &flags.overrides);
  parser.Choice("resume", {{"auto", Resume::kAuto}, {"must", Resume::kMust}, {"never", Resume::kNever}}, &flags.resume);
  parser.Number("nproc", "a number of processes", 1, &flags.nproc);
  parser.Switch("dry_run", &flags.dry_run);
  TITAN_RETURN_IF_ERROR(parser.Parse(arguments));
  if (flags.bundle.empty()) {
    return absl::InvalidArgumentError(
        "--bundle is missing: the directory of a bundle, as bazel build :x.bundle makes it");
  }
  return flags;
}

}  // namespace titan
