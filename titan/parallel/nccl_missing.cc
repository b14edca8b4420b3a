// Builds without --config=cuda have no NCCL.

#include "titan/parallel/nccl_communicator.h"

namespace titan {

absl::Status HasNccl() {
  return absl::UnimplementedError("this program was built without GPUs; build it with --config=cuda");
}

absl::StatusOr<std::unique_ptr<Communicator>> NewNcclCommunicator(const NcclContext&, const std::string&,
                                                                  const std::vector<int64_t>&, int64_t, int64_t) {
  return HasNccl();
}

}  // namespace titan
