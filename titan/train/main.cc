// titan_trainer: see kTrainerHelp in flags.cc. It is one of three things: the only process of a run; one rank of
// several (with --rendezvous); or the supervisor, which starts the ranks on this machine.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "absl/log/globals.h"
#include "absl/log/initialize.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "launchers/local/supervisor.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/train/allocator.h"
#include "titan/train/exit_code.h"
#include "titan/train/flags.h"
#include "titan/train/run.h"
#include "titan/train/run_inputs.h"
#include "titan/train/seed_checkpoint.h"
#include "tools/bundle/bundle.h"

namespace titan {
namespace {

// How many processes a run on this machine has.
absl::StatusOr<int64_t> NumLocalRanks(const config::Cluster& cluster) {
  if (cluster.num_nodes() == 1) return cluster.devices_per_node();
  return absl::InvalidArgumentError(
      absl::StrCat("the experiment is for ", cluster.num_nodes(), " machines (cluster.num_nodes). Start it there with ",
                   "its .slurm target; or here, if its parallelism fits, with --set cluster.num_nodes=1 --nproc N"));
}

absl::Status SuperviseRanks(TrainerFlags flags, std::vector<std::string> command, int64_t num_ranks) {
  // What is wrong with the run is said once, here, and not by every rank. Where it writes is decided here, too.
  flags.identity.world_size = num_ranks;
  TITAN_ASSIGN_OR_RETURN(const RunInputs inputs, ReadRunInputs(flags));
  const std::string logs = inputs.directory.path + "/logs";
  TITAN_RETURN_IF_ERROR(MakeDirectories(logs));
  const size_t num_words = command.size();
  command.insert(command.end(), {"--out", inputs.directory.path, "--supervised_words", absl::StrCat(num_words)});
  return Supervise({.program = std::filesystem::canonical("/proc/self/exe"),
                    .arguments = std::move(command),
                    .num_ranks = num_ranks,
                    .log_directory = logs,
                    .log_ranks = flags.log_ranks});
}

// The first rank says what runs, the others who they are: for their logs.
void Introduce(const RankIdentity& identity) {
  if (identity.rank == 0) return;
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  std::cout << "rank " << identity.rank << " of " << identity.world_size << ": process " << getpid() << " on " << host
            << ", " << absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone()) << std::endl;
}

absl::Status CheckRuntime(const TrainerFlags& flags) {
  TITAN_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(flags.bundle));
  const absl::Status runtime = VerifyRuntime(flags.bundle, manifest);
  return runtime.ok() ? runtime : absl::InvalidArgumentError(runtime.message());
}

absl::Status Start(const TrainerFlags& flags, std::vector<std::string> command) {
  // A rank of the supervisor is the same program with the same libraries.
  const bool is_supervised = flags.identity.supervised_words > 0;
  if (!is_supervised) TITAN_RETURN_IF_ERROR(CheckRuntime(flags));
  const bool is_rank = flags.identity.port != 0;
  if (is_rank) Introduce(flags.identity);
  if (is_supervised) command.resize(flags.identity.supervised_words);
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ReadBundleExperiment(flags));
  if (experiment.checkpoint().create_seed_checkpoint()) return CreateSeedCheckpoint(flags, experiment);
  if (is_rank || flags.dry_run) return RunTrainer(flags, command);
  TITAN_ASSIGN_OR_RETURN(const int64_t num_ranks, NumLocalRanks(experiment.cluster()));
  return num_ranks == 1 ? RunTrainer(flags, command) : SuperviseRanks(flags, command, num_ranks);
}

// Endings that all ranks come to together are told by the first; the others put them only into their logs.
std::ostream& StreamFor(ExitCode code, int64_t rank) {
  const bool is_common = code == ExitCode::kNonFinite || code == ExitCode::kPreempted;
  return is_common && rank != 0 ? std::cout : std::cerr;
}

int Main(const std::vector<std::string>& command) {
  const absl::StatusOr<TrainerFlags> flags = ParseTrainerFlags({command.begin() + 1, command.end()});
  if (flags.ok() && flags->help) {
    std::cout << kTrainerHelp;
    return 0;
  }
  const absl::Status status = flags.ok() ? Start(*flags, command) : flags.status();
  const ExitCode code = ExitCodeOf(status);
  if (!status.ok()) {
    StreamFor(code, flags.ok() ? flags->identity.rank : 0) << "titan_trainer: " << status.message() << std::endl;
  }
  return static_cast<int>(code);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  titan::KeepFreedMemory();
  absl::SetStderrThreshold(absl::LogSeverityAtLeast::kWarning);
  absl::InitializeLog();
  const int code = titan::Main({argv, argv + argc});
  std::cout.flush();
  std::cerr.flush();
  // Everything is written and closed. The static objects of LibTorch, CUPTI and the CUDA driver are not destroyed,
  // because that races with threads of their own: three of nine runs with
  // traces on two GPUs ended in a segmentation fault.
  std::_Exit(code);
}
