// The trainer's command line.
//
//   absl::StatusOr<TrainerFlags> flags = ParseTrainerFlags({"--bundle", "b", "--set", "training.steps=20"});

#ifndef TITAN_TRAIN_FLAGS_H_
#define TITAN_TRAIN_FLAGS_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace titan {

enum class Resume {
  kAuto,   // from the newest checkpoint in the run directory, if there is one
  kMust,   // an error without one
  kNever,  // from the beginning; an error if the directory holds a run
};

// Which of the processes of a run this is, and where they meet.
struct RankIdentity {
  int64_t rank = 0;
  int64_t world_size = 1;
  int64_t local_rank = 0;          // on its machine; the index of its GPU
  std::string host = "localhost";  // where rank 0 listens
  int64_t port = 0;                // 0: not given; the run's only process, or the one that starts the others
  int64_t listen_socket = -1;      // of rank 0: that port, already listening, in this open file; -1: none
  // Not 0 if the local supervisor has started this rank: it has checked all files of the bundle, and of the command
  // line the first so many words are the user's.
  int64_t supervised_words = 0;
};

struct TrainerFlags {
  std::string bundle;
  std::string out;                     // empty: outputs/<experiment>/<UTC time>
  std::vector<std::string> overrides;  // "path=value"
  Resume resume = Resume::kAuto;
  bool allow_digest_change = false;  // continues a checkpoint of another run id
  bool dry_run = false;
  bool help = false;
  int64_t nproc = 0;  // 0: cluster.devices_per_node
  // Whose output the terminal shows; nothing: everyone's.
  std::optional<std::set<int64_t>> log_ranks = std::set<int64_t>{0};
  RankIdentity identity;
};

// What --help prints.
extern const char kTrainerHelp[];

// `arguments` without the program's name. "--flag value" and "--flag=value" are the same; relative paths are meant from
// where the user is. InvalidArgument names the flag and what it takes, or the flag that was probably meant.
//
// The identity is that of --rank, --world_size and --local_rank (all or none), else of the variables that srun sets for
// each task: SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID. Either way --rendezvous makes a process one of several; without
// it the variables mean nothing, except that a task of several is told of what it lacks.
absl::StatusOr<TrainerFlags> ParseTrainerFlags(const std::vector<std::string>& arguments);

}  // namespace titan

#endif  // TITAN_TRAIN_FLAGS_H_
