// A child process that ends with its parent.
//
//   TITAN_ASSIGN_OR_RETURN(RankProcess process, StartProcess({.program = "/b/bin/titan_trainer", .arguments = {...}}));

#ifndef TITAN_LAUNCHERS_LOCAL_RANK_PROCESS_H_
#define TITAN_LAUNCHERS_LOCAL_RANK_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace titan {

struct RankProcessOptions {
  std::string program;                   // a path
  std::vector<std::string> arguments;    // the first is the program's name
  std::vector<std::string> environment;  // "NAME=value", all of it
  int open_file = -1;                    // what it finds open beside its standard files
  bool terminal = false;                 // its standard output is a terminal, of the size of this process's
};

// The caller reads and closes the two files, which do not block, and waits for `pid`.
struct RankProcess {
  pid_t pid = -1;
  int standard_output = -1;
  int standard_error = -1;
};

// The child is the leader of a process group of its own, so that the terminal's Ctrl-C reaches only its parent; reads
// nothing; and is killed when the thread that called this ends, however that ends.
absl::StatusOr<RankProcess> StartProcess(const RankProcessOptions& options);

}  // namespace titan

#endif  // TITAN_LAUNCHERS_LOCAL_RANK_PROCESS_H_
