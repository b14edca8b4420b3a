// The one seam to the network: collectives and messages among the ranks of one group. Parallel code names no back end;
// Gloo (CPU tensors) and NCCL (CUDA tensors) stand behind it, so that every parallel mode runs as real processes on a
// machine without a GPU.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Transport> transport, ConnectTransport(options));   // once per process
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> tp, transport->NewGroup("tp0", {0, 1}));
//   Work work = tp->AllReduce(x);       // starts
//   ...                                 // computes something else
//   work.Wait();                        // x now holds the sum
//
// Contract:
// * All ranks of a group call the same operations in the same order with the same sizes.
// * Tensors are contiguous, on the transport's device, and untouched by the caller until Wait() has returned. The Work
//   keeps them alive.
// * Gloo: Wait() blocks the calling thread. NCCL: operations run on a stream of the group's own, one after the other,
//   after all that the current stream was given before the call; Wait() makes the *current stream* wait, which must be
//   the one that the tensors belong to, and returns at once.
// * Because of that order, two ranks that each receive in one call and send in a later one of the same group wait for
//   each other for ever: put both into one Exchange, or take a group for each direction.
// * Reductions add in float32 for bfloat16 on Gloo; NCCL adds in its own way. The order of summation depends on the
//   group's size alone, so that the same inputs give the same bits again.
// * Groups are destroyed in the same order by all ranks that share several of them: NCCL's end waits for the others'.
// * A wait that exceeds the time limit, or a peer that is gone, ends as a CommunicationError, thrown, because autograd
//   functions cannot return a Status; CatchTorchErrors turns it into a Status with ExitCode::kPeerLost. Its text names
//   operation, group, sequence number, and the ranks that did not arrive. Every later operation of the process fails at
//   once.

#ifndef TITAN_PARALLEL_COMMUNICATOR_H_
#define TITAN_PARALLEL_COMMUNICATOR_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

// A peer was lost or did not arrive in time.
class CommunicationError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class ReduceOp { kSum, kMax };

// Something that was started. Empty (default-made) and finished ones can be waited for, too: at once.
class Work {
 public:
  // One back end's operation under way.
  class Handle {
   public:
    virtual ~Handle() = default;
    virtual void Wait() = 0;  // throws CommunicationError
  };

  Work() = default;
  explicit Work(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}

  // See the contract above. Throws CommunicationError. A second call does nothing.
  void Wait() {
    if (std::shared_ptr<Handle> handle = std::move(handle_)) handle->Wait();
  }

 private:
  std::shared_ptr<Handle> handle_;
};

enum class CollectiveKind { kAllGather, kReduceScatter, kAllReduce, kAllToAll, kBroadcast, kSend, kRecv, kBarrier };
inline constexpr size_t kNumCollectiveKinds = 8;
const char* NameOf(CollectiveKind kind);

// What one rank has asked of a group so far.
struct CommunicationCount {
  int64_t calls = 0;
  // Bytes that this rank sends to others when the operation is done with the least traffic (the ring's):
  //   all-gather (n-1) b for a contribution of b bytes; reduce-scatter (n-1) b for a result of b; all-reduce 2 (n-1)/n
  //   b; all-to-all the bytes that are not its own; broadcast b at the root; send b. Receives count nothing.
  int64_t bytes_sent = 0;
};
using CommunicationCounts = std::array<CommunicationCount, kNumCollectiveKinds>;  // by CollectiveKind

class Communicator {
 public:
  virtual ~Communicator() = default;

  const std::string& name() const { return name_; }
  int64_t rank() const { return rank_; }  // of this process in the group
  int64_t size() const { return static_cast<int64_t>(ranks_.size()); }
  const std::vector<int64_t>& ranks() const { return ranks_; }  // global rank of each member
  const CommunicationCounts& counts() const { return counts_; }

  // A group of one may be asked for everything; nothing travels.
  // `output` holds size() times the elements of `input`, rank by rank; `input` may be this rank's part of `output`. Any
  // dtype, bytes included.
  Work AllGather(const at::Tensor& output, const at::Tensor& input);
  // `input` holds size() times the elements of `output`: element block r of all inputs, reduced, goes to rank r.
  // `output` may be this rank's part of `input`. float32, bfloat16, float64, int64.
  Work ReduceScatter(const at::Tensor& output, const at::Tensor& input, ReduceOp op = ReduceOp::kSum);
  // In place. Dtypes as above.
  Work AllReduce(const at::Tensor& tensor, ReduceOp op = ReduceOp::kSum);
  // Block r of `input` goes to rank r, whose block of this rank's number in `output` it becomes. The blocks are rows of
  // the first dimension: equal parts of it, or as many as the two lists say.
  Work AllToAll(const at::Tensor& output, const at::Tensor& input);
  Work AllToAll(const at::Tensor& output, const std::vector<int64_t>& output_rows, const at::Tensor& input,
                const std::vector<int64_t>& input_rows);
  Work Broadcast(const at::Tensor& tensor, int64_t root);
  // Point to point. All transfers of one call progress together, so that two ranks may exchange without deadlock.
  // Between two ranks of a group messages arrive in the order in which they were sent. Peers are ranks in the group.
  struct Transfer {
    at::Tensor tensor;
    int64_t peer = 0;
  };
  Work Exchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives);
  // All ranks have arrived when it returns; blocks the calling thread. `limit` instead of the transport's time limit is
  // for what may well take longer than any step, such as writing a checkpoint. Throws CommunicationError.
  void Barrier(std::optional<std::chrono::seconds> limit = std::nullopt);

 protected:
  Communicator(std::string name, std::vector<int64_t> ranks, int64_t rank)
      : name_(std::move(name)), ranks_(std::move(ranks)), rank_(rank) {}

  // What a back end does; arguments were checked, and the group has at least two ranks.
  virtual Work DoAllGather(const at::Tensor& output, const at::Tensor& input) = 0;
  virtual Work DoReduceScatter(const at::Tensor& output, const at::Tensor& input, ReduceOp op) = 0;
  virtual Work DoAllReduce(const at::Tensor& tensor, ReduceOp op) = 0;
  virtual Work DoAllToAll(const at::Tensor& output, const std::vector<int64_t>& output_rows, const at::Tensor& input,
                          const std::vector<int64_t>& input_rows) = 0;
  virtual Work DoBroadcast(const at::Tensor& tensor, int64_t root) = 0;
  virtual Work DoExchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives) = 0;
  virtual void DoBarrier(std::optional<std::chrono::seconds> limit) = 0;

 private:
  void Count(CollectiveKind kind, int64_t bytes_sent);

  std::string name_;
  std::vector<int64_t> ranks_;
  int64_t rank_;
  CommunicationCounts counts_{};
};

// How the processes of a run find each other.
struct TransportOptions {
  int64_t rank = 0;
  int64_t world_size = 1;
  // Where rank 0 listens, and everyone else knocks: host name or address, and port. Port 0 only for a world of one.
  std::string host = "localhost";
  int64_t port = 0;
  int listen_socket = -1;  // rank 0: a socket that listens on that port already, inherited from whoever chose the port
  at::Device device = at::kCPU;            // CPU: Gloo. CUDA: NCCL
  std::chrono::seconds init_timeout{300};  // until all ranks have come
  std::chrono::seconds timeout{100};       // of every operation thereafter
};

// This process's end of the network: makes groups, and notices when a peer dies.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual int64_t rank() const = 0;
  virtual int64_t world_size() const = 0;

  // A group of the given global ranks, this process among them. All processes of the world that are in the group call
  // it, in the same order of names; `name` is unique.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> NewGroup(const std::string& name,
                                                                 const std::vector<int64_t>& ranks) = 0;

  // OK, or Unavailable with what has failed. NCCL's Wait() returns before the operation has run: look here after
  // reading something back from the GPU, because what a failed operation leaves there is garbage.
  virtual absl::Status status() const = 0;

  // Tells the others that this process ends because of `reason`, so that they stop within seconds and can name it. A
  // process that just dies is noticed, too, but without a reason. On the way out of an error it comes first: groups
  // that are destroyed wait for what they have begun, a transport for the others' goodbyes.
  virtual void Abort(const std::string& reason) = 0;
};

// Unavailable names the address and who did not come within options.init_timeout.
absl::StatusOr<std::unique_ptr<Transport>> ConnectTransport(const TransportOptions& options);

}  // namespace titan

#endif  // TITAN_PARALLEL_COMMUNICATOR_H_
