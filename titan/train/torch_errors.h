// LibTorch reports errors as exceptions; the project passes absl::Status on. This is the border between the two.
//
//   absl::Status status = CatchTorchErrors("the optimizer step", [&]() -> absl::Status { ...ATen calls... });

#ifndef TITAN_TRAIN_TORCH_ERRORS_H_
#define TITAN_TRAIN_TORCH_ERRORS_H_

#include <functional>
#include <string_view>

#include "absl/status/status.h"

namespace titan {

// Runs `function` and turns an exception into an error: ResourceExhausted with ExitCode::kOutOfMemory when the device
// or the host is out of memory, Unavailable with ExitCode::kPeerLost for a CommunicationError, Internal
// otherwise. `what` begins the message.
absl::Status CatchTorchErrors(std::string_view what, const std::function<absl::Status()>& function);

}  // namespace titan

#endif  // TITAN_TRAIN_TORCH_ERRORS_H_
