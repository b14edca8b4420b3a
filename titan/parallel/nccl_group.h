// One NCCL communicator and what watches over it: a thread aborts it when an operation takes too long, when NCCL itself
// reports an error, or when the store says that a peer is lost. See nccl_communicator.h.

#ifndef TITAN_PARALLEL_NCCL_GROUP_H_
#define TITAN_PARALLEL_NCCL_GROUP_H_

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "titan/parallel/nccl_communicator.h"

namespace titan {

// An operation on the group's stream.
class NcclOperation {
 public:
  NcclOperation(const Operation& operation, c10::cuda::CUDAEvent done, std::vector<at::Tensor> tensors)
      : operation(operation), done(std::move(done)), tensors_(std::move(tensors)) {}

  // From here on the stream that the tensors belong to waits for the operation, so that their memory may be used again.
  void ReleaseTensors() {
    std::vector<at::Tensor> tensors;
    std::lock_guard<std::mutex> lock(mutex_);
    tensors.swap(tensors_);
  }

  const Operation operation;
  c10::cuda::CUDAEvent done;
  const std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();

 private:
  std::mutex mutex_;
  std::vector<at::Tensor> tensors_;
};

class NcclGroup {
 public:
  NcclGroup(const NcclContext& context, std::string name, std::vector<int64_t> ranks, int64_t rank, int64_t number);
  // Waits for what is under way, within the time limit.
  ~NcclGroup();

  // All ranks meet.
  absl::Status Connect();

  // Runs `enqueue`, which issues NCCL calls on the given stream, after all that the current stream has been given. It
  // may take as long as the context says, or `limit`. Throws CommunicationError.
  using Enqueue = std::function<void(ncclComm_t comm, cudaStream_t stream)>;
  std::shared_ptr<NcclOperation> Run(const char* kind, bool is_collective, std::vector<at::Tensor> tensors,
                                     const Enqueue& enqueue,
                                     std::optional<std::chrono::milliseconds> limit = std::nullopt);

  // Throws CommunicationError if anything has failed.
  void ThrowIfFailed(const Operation& operation) const;

  c10::Device device() const { return context_.device; }

 private:
  absl::Status ShareId(ncclUniqueId& id);
  // Until a call that NCCL finishes in the background is done.
  absl::Status AwaitNccl(ncclResult_t result, std::chrono::steady_clock::time_point deadline);
  void Watch();
  void DropFinished();  // under mutex_
  void Abort();
  void Close();

  const NcclContext context_;
  const std::string name_;
  const std::vector<int64_t> ranks_;  // global
  const int64_t rank_;
  const int64_t number_;
  const c10::cuda::CUDAStream stream_;

  std::mutex comm_mutex_;  // NCCL calls of one communicator come one at a time
  ncclComm_t comm_ = nullptr;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<NcclOperation>> pending_;
  bool stopping_ = false;
  std::thread watcher_;
};

}  // namespace titan

#endif  // TITAN_PARALLEL_NCCL_GROUP_H_
