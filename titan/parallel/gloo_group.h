// What the operations of one Gloo group share: posting messages under numbers of their own, waiting for them, and the
// text of what went wrong. See gloo_communicator.h.

#ifndef TITAN_PARALLEL_GLOO_GROUP_H_
#define TITAN_PARALLEL_GLOO_GROUP_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "titan/parallel/gloo_communicator.h"

namespace titan {

class GlooGroup {
 public:
  // A stretch of messages between this rank and another one, in one direction.
  struct Channel {
    int64_t member = 0;  // rank in the group
    bool is_send = false;
    uint64_t slot = 0;  // of the first message; the next ones follow
  };

  GlooGroup(const GlooContext& context, std::string name, std::vector<int64_t> ranks, int64_t rank, int64_t number);

  int64_t rank() const { return rank_; }
  int64_t size() const { return static_cast<int64_t>(ranks_.size()); }

  // This process begins an operation, which may take as long as the context says, or `limit`. Throws CommunicationError
  // if something has failed before.
  Operation Begin(const char* kind, bool is_collective, std::optional<std::chrono::milliseconds> limit = std::nullopt);

  // Messages from a to b of a group have numbers in the order in which both ranks come to speak of them.
  Channel ReserveSends(int64_t member, int64_t messages);
  Channel ReserveReceives(int64_t member, int64_t messages);

  // Posts message `index` of the channel. Nothing travels if it is empty. Throws CommunicationError.
  void Post(const Operation& operation, const Channel& channel, int64_t index, const void* data, size_t bytes,
            std::vector<Message>& messages);
  // Until all are done; empties the list. Throws CommunicationError.
  void WaitFor(const Operation& operation, std::vector<Message>& messages);

 private:
  [[noreturn]] void Fail(const Operation& operation, const absl::Status& status, int64_t awaited);

  const GlooContext context_;
  const std::string name_;
  const std::vector<int64_t> ranks_;  // global
  const int64_t rank_;
  const int64_t number_;
  std::mutex mutex_;
  std::vector<uint64_t> sent_, received_;  // messages so far, by member
};

}  // namespace titan

#endif  // TITAN_PARALLEL_GLOO_GROUP_H_
