// Collectives over GlooLinks. Each is a direct exchange with all other ranks, which sends no more bytes than a ring and
// waits for fewer messages in a row. Reductions add in the order of the ranks (gloo_reduce.h).
//
// An operation's messages are posted by the calling thread; Gloo's event loop moves them. What has a second step (a
// large all-reduce) or goes piece by piece (a large reduce-scatter) is done by a thread of the group, in order. Nothing
// polls.

#ifndef TITAN_PARALLEL_GLOO_COMMUNICATOR_H_
#define TITAN_PARALLEL_GLOO_COMMUNICATOR_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "titan/parallel/communicator.h"
#include "titan/parallel/gloo_links.h"
#include "titan/parallel/store_client.h"
#include "titan/parallel/transport_progress.h"

namespace titan {

// What all groups of a process share.
struct GlooContext {
  std::shared_ptr<ProgressTable> progress;
  std::shared_ptr<GlooLinks> links;
  // Goes before the links do: its goodbye waits for the others, so that no connection closes on what they still read.
  std::shared_ptr<StoreClient> store;
  std::chrono::milliseconds timeout{100'000};
};

// `number` is the group's own among all groups of the run.
std::unique_ptr<Communicator> NewGlooCommunicator(const GlooContext& context, const std::string& name,
                                                  const std::vector<int64_t>& ranks, int64_t rank_in_group,
                                                  int64_t number);

}  // namespace titan

#endif  // TITAN_PARALLEL_GLOO_COMMUNICATOR_H_
