// How the trainer ends, for whatever started it. The numbers are part of the interface (DESIGN.md, run directory).
//
//   return static_cast<int>(ExitCodeOf(status));

#ifndef TITAN_TRAIN_EXIT_CODE_H_
#define TITAN_TRAIN_EXIT_CODE_H_

#include <string_view>

#include "absl/status/status.h"

namespace titan {

enum class ExitCode {
  kDone = 0,
  kFailed = 1,  // none of the others: a full disk, a damaged file, a bug
  kUsage = 2,   // bad usage or configuration
  kOutOfMemory = 3,
  kNonFinite = 4,  // loss or gradients
  kPeerLost = 5,
  kPreempted = 75,  // stopped by a signal: start it again to continue
};

// Attaches an exit code to an error.
absl::Status WithExitCode(absl::Status status, ExitCode code);

// The attached code; else kUsage for InvalidArgument, kFailed for other errors, kDone for ok.
ExitCode ExitCodeOf(const absl::Status& status);

// One or two words for reports: "done", "out of memory".
std::string_view NameOf(ExitCode code);

}  // namespace titan

#endif  // TITAN_TRAIN_EXIT_CODE_H_
