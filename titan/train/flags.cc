#include "titan/train/flags.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
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
  --allow_digest_change       continues from a checkpoint that another program, configuration or data has written;
                              without it, that is refused
  --nproc N                   processes on this machine (default: cluster.devices_per_node). More than one are started
                              and watched by this one
  --log_ranks 0,3|all         ranks whose output is shown (default: 0). Of others only what they write to standard
                              error is; logs/rank-R.log has all
  --dry_run                   prints what would run, and stops
  --help                      prints this

For launchers, which start every rank themselves:
  --rendezvous HOST:PORT      where rank 0 listens; with it, this process is one rank
  --rank R --world_size W --local_rank L
                              which one (default: SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, as srun sets them)
  --listen_socket N           of rank 0: an open file that listens there already
  --supervised_words N        the bundle's files are checked; the first N words of the command line are the user's

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 out of memory, 4 loss or gradients not finite, 5 a peer was
lost, 75 stopped by a signal (after 5 and 75: start it again with the same --out to continue).
)";

namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

absl::StatusOr<std::optional<std::set<int64_t>>> ParseLogRanks(const std::string& text) {
  if (text == "all") return std::nullopt;
  std::set<int64_t> ranks;
  for (const absl::string_view word : absl::StrSplit(text, ',')) {
    int64_t rank = 0;
    if (!absl::SimpleAtoi(word, &rank) || rank < 0) {
      return absl::InvalidArgumentError(absl::StrCat("--log_ranks ", text, ": takes ranks, such as 0,3, or all"));
    }
    ranks.insert(rank);
  }
  return ranks;
}

// HOST:PORT; an IPv6 address stands in brackets.
absl::Status ParseRendezvous(const std::string& text, RankIdentity& identity) {
  const size_t colon = text.rfind(':');
  std::string host = text.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    host.clear();
  }
  if (colon == std::string::npos || host.empty() || !absl::SimpleAtoi(text.substr(colon + 1), &identity.port) ||
      identity.port < 1 || identity.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rendezvous ", text, ": takes HOST:PORT, such as node1:29500 or [fd00::1]:29500"));
  }
  identity.host = host;
  return absl::OkStatus();
}

// The variables that srun sets for each task. In a shell of salloc or sbatch some of them are set, too, and mean
// nothing: so they count only beside --rendezvous.
absl::Status ReadSlurmTask(RankIdentity& identity) {
  for (const auto& [name, value] :
       {std::pair("SLURM_PROCID", &identity.rank), std::pair("SLURM_NTASKS", &identity.world_size),
        std::pair("SLURM_LOCALID", &identity.local_rank)}) {
    const std::string text = Variable(name);
    if (!absl::SimpleAtoi(text, value) || *value < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--rendezvous is given, but not which rank this is: neither --rank, --world_size and "
                       "--local_rank, nor as srun says it (",
                       name, text.empty() ? " is not set)" : absl::StrCat(" is \"", text, "\")")));
    }
  }
  return absl::OkStatus();
}

// srun without --rendezvous would start as many whole runs as it has tasks, all in one directory.
absl::Status CheckNotOneOfManyTasks() {
  int64_t tasks = 1;
  if (!absl::SimpleAtoi(Variable("SLURM_STEP_NUM_TASKS"), &tasks) || tasks < 2) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("srun starts this as one of ", tasks,
                   " tasks, but --rendezvous HOST:PORT is missing. Use the experiment's .slurm target, which gives "
                   "it, or srun --ntasks=1 for a run on one machine"));
}

// `rank_flags`: how many of --rank, --world_size and --local_rank are given.
absl::Status CompleteIdentity(const std::string& rendezvous, int64_t rank_flags, RankIdentity& identity) {
  if (rank_flags != 0 && (rank_flags != 3 || rendezvous.empty())) {
    return absl::InvalidArgumentError(
        "--rank, --world_size, --local_rank and --rendezvous belong together: give all four, or none and let the "
        "trainer start its ranks");
  }
  if (rendezvous.empty()) {
    if (identity.listen_socket >= 0) return absl::InvalidArgumentError("--listen_socket needs --rendezvous");
    if (identity.supervised_words > 0) return absl::InvalidArgumentError("--supervised_words needs --rendezvous");
    return CheckNotOneOfManyTasks();
  }
  TITAN_RETURN_IF_ERROR(ParseRendezvous(rendezvous, identity));
  if (rank_flags == 0) TITAN_RETURN_IF_ERROR(ReadSlurmTask(identity));
  if (identity.rank >= identity.world_size || identity.local_rank > identity.rank) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", identity.rank, ", local rank ", identity.local_rank, " of ",
                                                   identity.world_size,
                                                   " processes: ranks count from 0, and a local rank is at most the "
                                                   "rank"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TrainerFlags> ParseTrainerFlags(const std::vector<std::string>& arguments) {
  TrainerFlags flags;
  flags.help = WantsHelp(arguments);
  if (flags.help) return flags;
  std::string log_ranks = "0";
  std::string rendezvous;
  RankIdentity& identity = flags.identity;
  identity = {.rank = -1, .world_size = -1, .local_rank = -1};
  FlagParser parser;
  parser.Path("bundle", &flags.bundle);
  parser.Path("out", &flags.out);
  parser.List("set", &flags.overrides);
  parser.Choice("resume", {{"auto", Resume::kAuto}, {"must", Resume::kMust}, {"never", Resume::kNever}}, &flags.resume);
  parser.Switch("allow_digest_change", &flags.allow_digest_change);
  parser.Number("nproc", "a number of processes", 1, &flags.nproc);
  parser.Text("log_ranks", &log_ranks);
  parser.Switch("dry_run", &flags.dry_run);
  parser.Text("rendezvous", &rendezvous);
  parser.Number("rank", "the number of this process", 0, &identity.rank);
  parser.Number("world_size", "a number of processes", 1, &identity.world_size);
  parser.Number("local_rank", "the number of this process on its machine", 0, &identity.local_rank);
  parser.Number("listen_socket", "the number of an open file", 0, &identity.listen_socket);
  parser.Number("supervised_words", "a number of words", 1, &identity.supervised_words);
  TITAN_RETURN_IF_ERROR(parser.Parse(arguments));
  if (flags.bundle.empty()) {
    return absl::InvalidArgumentError(
        "--bundle is missing: the directory of a bundle, as bazel build :x.bundle makes it");
  }
  TITAN_ASSIGN_OR_RETURN(flags.log_ranks, ParseLogRanks(log_ranks));
  const int64_t rank_flags = (identity.rank >= 0) + (identity.world_size >= 0) + (identity.local_rank >= 0);
  TITAN_RETURN_IF_ERROR(CompleteIdentity(rendezvous, rank_flags, identity));
  if (rendezvous.empty()) identity = {};
  return flags;
}

}  // namespace titan
