// The connections of this process to all others over Gloo's TCP transport: one for each pair of processes, shared by
// all groups. Messages are matched by slot, so that groups and operations do not wait for one another.
//
// Of Gloo only this is used: sockets, their event loop, and unbound buffers, in which a message leaves only once its
// receiver has said where to put it. The collectives on top are in gloo_communicator.h.

#ifndef TITAN_PARALLEL_GLOO_LINKS_H_
#define TITAN_PARALLEL_GLOO_LINKS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gloo/transport/unbound_buffer.h"
#include "titan/parallel/store_client.h"

namespace titan {

// A message under way. Its memory must live as long as it does.
struct Message {
  std::unique_ptr<gloo::transport::UnboundBuffer> buffer;
  int64_t peer = 0;  // global rank
  bool is_send = false;
};

class GlooLinks {
 public:
  static absl::StatusOr<std::shared_ptr<GlooLinks>> Connect(StoreClient& store, int64_t rank, int64_t world_size,
                                                            std::chrono::milliseconds timeout);

  // Both return at once. `peer` is a global rank. The k-th message from a to b with a slot arrives in the k-th receive.
  // Unavailable: the connection is broken.
  absl::StatusOr<Message> Send(const void* data, size_t bytes, int64_t peer, uint64_t slot);
  absl::StatusOr<Message> Receive(void* data, size_t bytes, int64_t peer, uint64_t slot);

  // Blocks. DeadlineExceeded, or Unavailable if the connection broke or Break() was called.
  absl::Status Wait(Message& message, std::chrono::steady_clock::time_point deadline);

  // Takes a message that is done. Gloo's thread may still hold it for a moment, and its destructor would spin until
  // that thread has run again: so it goes some messages later.
  void Retire(Message message);

  // Ends everything that waits or will wait.
  void Break();

 private:
  class Context;

  explicit GlooLinks(std::shared_ptr<Context> context);

  std::shared_ptr<Context> context_;
  std::mutex mutex_;
  bool broken_ = false;
  std::set<gloo::transport::UnboundBuffer*> waiting_;
  std::deque<Message> retired_;
};

}  // namespace titan

#endif  // TITAN_PARALLEL_GLOO_LINKS_H_
