// titan_trainer: see kTrainerHelp in flags.cc.

#include <iostream>
#include <string>
#include <vector>

#include "absl/log/globals.h"
#include "absl/log/initialize.h"
#include "titan/base/status_macros.h"
#include "titan/train/allocator.h"
#include "titan/train/exit_code.h"
#include "titan/train/flags.h"
#include "titan/train/run.h"
#include "tools/bundle/bundle.h"

namespace titan {
namespace {

absl::Status Main(const std::vector<std::string>& command) {
  TITAN_ASSIGN_OR_RETURN(const TrainerFlags flags, ParseTrainerFlags({command.begin() + 1, command.end()}));
  if (flags.help) {
    std::cout << kTrainerHelp;
    return absl::OkStatus();
  }
  TITAN_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(flags.bundle));
  if (const absl::Status runtime = VerifyRuntime(flags.bundle, manifest); !runtime.ok()) {
    return absl::InvalidArgumentError(runtime.message());
  }
  return RunTrainer(flags, command);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  titan::KeepFreedMemory();
  absl::SetStderrThreshold(absl::LogSeverityAtLeast::kWarning);
  absl::InitializeLog();
  const absl::Status status = titan::Main({argv, argv + argc});
  if (!status.ok()) std::cerr << "titan_trainer: " << status.message() << std::endl;
  return static_cast<int>(titan::ExitCodeOf(status));
}
