#include "titan/train/exit_code.h"

#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace titan {
namespace {

constexpr char kPayload[] = "titan/exit_code";

}  // namespace

absl::Status WithExitCode(absl::Status status, ExitCode code) {
  status.SetPayload(kPayload, absl::Cord(absl::StrCat(static_cast<int>(code))));
  return status;
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return ExitCode::kDone;
  if (const auto payload = status.GetPayload(kPayload)) {
    int code = 0;
    if (absl::SimpleAtoi(std::string(*payload), &code)) return static_cast<ExitCode>(code);
  }
  return absl::IsInvalidArgument(status) ? ExitCode::kUsage : ExitCode::kFailed;
}

std::string_view NameOf(ExitCode code) {
  switch (code) {
    case ExitCode::kDone:
      return "done";
    case ExitCode::kUsage:
      return "bad usage or configuration";
    case ExitCode::kOutOfMemory:
      return "out of memory";
    case ExitCode::kNonFinite:
      return "loss or gradients not finite";
    case ExitCode::kPeerLost:
      return "a peer was lost";
    case ExitCode::kPreempted:
      return "preempted";
    case ExitCode::kFailed:
      break;
  }
  return "failed";
}

}  // namespace titan
