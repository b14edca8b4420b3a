#include "titan/train/torch_errors.h"

#include <c10/util/Exception.h>

#include <new>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/parallel/communicator.h"
#include "titan/train/exit_code.h"

namespace titan {
namespace {

absl::Status OutOfMemory(std::string_view what, std::string_view reason) {
  return WithExitCode(
      absl::ResourceExhaustedError(absl::StrCat(
          "out of memory in ", what, ": ", reason,
          "\nLower training.local_batch_size (the same global_batch_size then takes more accumulation steps), lower "
          "training.seq_len, or set activation_checkpoint.mode to full. Parameters and optimizer state take less when "
          "more ranks share them (parallelism.data_parallel_shard_degree).")),
      ExitCode::kOutOfMemory);
}

}  // namespace

absl::Status CatchTorchErrors(std::string_view what, const std::function<absl::Status()>& function) {
  try {
    return function();
  } catch (const c10::OutOfMemoryError& error) {
    return OutOfMemory(what, error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return OutOfMemory(what, "the host cannot give more memory");
  } catch (const c10::Error& error) {
    const std::string reason = error.what_without_backtrace();
    // The CPU allocator throws a plain error.
    if (absl::StrContains(reason, "allocate memory") || absl::StrContains(reason, "not enough memory")) {
      return OutOfMemory(what, reason);
    }
    return absl::InternalError(absl::StrCat(what, ": ", reason));
  } catch (const CommunicationError& error) {
    return WithExitCode(absl::UnavailableError(absl::StrCat(what, ": ", error.what())), ExitCode::kPeerLost);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(what, ": ", error.what()));
  }
}

}  // namespace titan
