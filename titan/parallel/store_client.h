// One process's connection to the store that rank 0 serves: finding each other, agreeing, and noticing who is lost.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<StoreClient> store, StoreClient::Connect(options));   // all have come
//   store->Set("id", bytes);
//   TITAN_ASSIGN_OR_RETURN(std::string id, store->Get("id", std::chrono::seconds(30)));
//
// A failure is final: the first one that this process hears of (a rank died, a rank aborted, an operation timed out) is
// kept, and everything that still waits is told. All functions may be called from any thread.

#ifndef TITAN_PARALLEL_STORE_CLIENT_H_
#define TITAN_PARALLEL_STORE_CLIENT_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/parallel/store_frame.h"
#include "titan/parallel/store_server.h"

namespace titan {

class StoreClient {
 public:
  // Starts the server too on rank 0. Waits until all ranks have come; Unavailable names the address and who is missing.
  static absl::StatusOr<std::unique_ptr<StoreClient>> Connect(const StoreOptions& options);
  // Says goodbye, unless there was a failure, and waits some seconds until all others have, so that nobody takes down
  // what others still read.
  ~StoreClient();

  void Set(const std::string& key, const std::string& value);
  // Waits until somebody has set it. DeadlineExceeded, or Unavailable after a failure.
  absl::StatusOr<std::string> Get(const std::string& key, std::chrono::milliseconds timeout);
  void Delete(const std::string& key);
  // A number of this group of ranks in this run. FailedPrecondition if another process has named other ranks.
  absl::StatusOr<int64_t> GroupNumber(const std::string& name, const std::string& ranks);

  // What every process says of a group just now, by rank (see OnReport). Those that are stopped do not answer and are
  // not in it. Empty if rank 0 does not answer.
  std::map<int64_t, std::string> AskAll(const std::string& group);
  // Called by the connection's thread when somebody asks. Set before the first operation.
  void OnReport(std::function<std::string(const std::string& group)> report);

  // What has failed, in words; empty while nothing has.
  std::string failure() const;
  bool failed() const { return has_failed_.load(std::memory_order_acquire); }
  // Waits for it a little: when a connection broke, the store soon says whose.
  std::string AwaitFailure(std::chrono::milliseconds timeout) const;
  // This process has failed, or has seen a failure: tells everyone, unless a failure is known already.
  void Fail(const std::string& text);
  // Called once, by the thread that learns of the failure.
  void OnFailure(std::function<void()> callback);

  // Where others can reach this process: the address of its own machine by which it reaches rank 0.
  const std::string& address() const { return address_; }

 private:
  using Clock = std::chrono::steady_clock;

  StoreClient(int socket, std::unique_ptr<StoreServer> server, int64_t rank);
  absl::Status SayHello(const StoreOptions& options, Clock::time_point deadline);
  void Read();
  void Handle(Frame frame);
  absl::StatusOr<Frame> Request(FrameType type, const std::string& key, const std::string& value,
                                Clock::time_point deadline);
  void Send(const Frame& frame);
  void KeepFailure(const std::string& text);

  const int socket_;
  std::unique_ptr<StoreServer> server_;  // on rank 0
  const int64_t rank_;
  std::string address_;

  std::mutex write_mutex_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  uint64_t last_id_ = 0;
  std::map<uint64_t, std::optional<Frame>> answers_;  // of the requests under way
  bool all_left_ = false;
  bool leaving_ = false;
  std::string failure_;
  std::atomic<bool> has_failed_{false};
  std::function<void()> on_failure_;
  std::function<std::string(const std::string&)> on_report_;
  std::thread reader_;
};

}  // namespace titan

#endif  // TITAN_PARALLEL_STORE_CLIENT_H_
