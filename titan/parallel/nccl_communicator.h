// Collectives over NCCL, on a stream of the group's own. In builds without --config=cuda there are none.

#ifndef TITAN_PARALLEL_NCCL_COMMUNICATOR_H_
#define TITAN_PARALLEL_NCCL_COMMUNICATOR_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/parallel/communicator.h"
#include "titan/parallel/store_client.h"
#include "titan/parallel/transport_progress.h"

namespace titan {

// What all groups of a process share.
struct NcclContext {
  std::shared_ptr<ProgressTable> progress;
  std::shared_ptr<StoreClient> store;
  at::Device device = at::kCUDA;
  std::chrono::milliseconds init_timeout{300'000};
  std::chrono::milliseconds timeout{100'000};
};

// Unimplemented, with what to do, in builds without NCCL.
absl::Status HasNccl();

// All ranks of the group call it. `number` is the group's own among all groups of the run.
absl::StatusOr<std::unique_ptr<Communicator>> NewNcclCommunicator(const NcclContext& context, const std::string& name,
                                                                  const std::vector<int64_t>& ranks,
                                                                  int64_t rank_in_group, int64_t number);

}  // namespace titan

#endif  // TITAN_PARALLEL_NCCL_COMMUNICATOR_H_
