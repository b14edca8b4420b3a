// The local supervisor: starts the ranks of a run on this machine, and ends when they have.
//
//   return Supervise({.program = "/b/bin/titan_trainer",
//                     .arguments = {"titan_trainer", "--bundle", "/b", "--out", out},
//                     .num_ranks = 8,
//                     .log_directory = out + "/logs"});
//
// Rank R executes `program` with `arguments` and --rank R --world_size N --local_rank R --rendezvous 127.0.0.1:PORT.
// Rank 0 gets the port as a socket that listens already (--listen_socket), so that nobody can take it first.

#ifndef TITAN_LAUNCHERS_LOCAL_SUPERVISOR_H_
#define TITAN_LAUNCHERS_LOCAL_SUPERVISOR_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace titan {

struct SupervisorOptions {
  std::string program;                 // a path
  std::vector<std::string> arguments;  // the first is the program's name
  int64_t num_ranks = 1;
  std::string log_directory;  // exists; gets rank-R.log
  // Whose output is shown: as it is for one, in lines with the rank's name for several. Nothing: everyone's. Of others
  // only lines on standard error are shown.
  std::optional<std::set<int64_t>> log_ranks = std::set<int64_t>{0};

  // How long the others get to end by themselves after a rank has failed; then SIGTERM, then SIGKILL.
  std::chrono::milliseconds grace{6000};
  // The same after an ending that all ranks come to together (exit codes 4 and 75): some still write files.
  std::chrono::milliseconds common_ending_grace{60000};
  std::chrono::milliseconds termination_grace{3000};  // from SIGTERM to SIGKILL
};

// Ok when all ranks ended with 0. Else the error tells of the first failure: which rank, how, and its last lines. Its
// ExitCode is the rank's own. A signal's death is kFailed if the rank did it itself (SIGSEGV, SIGABRT, ...), because
// it would do it again; and kPeerLost if it came from outside (SIGKILL, ...), because another start may well succeed.
//
// SIGTERM and SIGINT to this process go to all ranks once, and it waits for them; the second one kills them. If this
// process is killed, the kernel kills the ranks. Call it from a thread that lives as long as the process, and before
// other threads start: it blocks these signals.
absl::Status Supervise(const SupervisorOptions& options);

}  // namespace titan

#endif  // TITAN_LAUNCHERS_LOCAL_SUPERVISOR_H_
