#include "titan/parallel/nccl_group.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"

namespace titan {
namespace {

using Clock = std::chrono::steady_clock;

// How often the watcher looks while something is under way.
constexpr std::chrono::milliseconds kWatchTime{50};
constexpr std::chrono::milliseconds kLastWatchTime{1};  // when somebody waits for it to end
// What NCCL does in the background is nearly always done at once; only a group's first operations connect.
constexpr std::chrono::microseconds kPollTime{50};
constexpr std::chrono::seconds kCloseTime{10};

std::string ErrorOf(ncclResult_t result, ncclComm_t comm) {
  const char* detail = ncclGetLastError(comm);
  return absl::StrCat("NCCL: ", ncclGetErrorString(result), detail != nullptr && *detail != '\0' ? ": " : "",
                      detail == nullptr ? "" : detail);
}

}  // namespace

NcclGroup::NcclGroup(const NcclContext& context, std::string name, std::vector<int64_t> ranks, int64_t rank,
                     int64_t number)
    : context_(context),
      name_(std::move(name)),
      ranks_(std::move(ranks)),
      rank_(rank),
      number_(number),
      stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, context.device.index())) {}

absl::Status NcclGroup::ShareId(ncclUniqueId& id) {
  const std::string key = absl::StrCat("nccl/", number_);
  if (rank_ != 0) {
    absl::StatusOr<std::string> bytes = context_.store->Get(key, context_.init_timeout);
    if (!bytes.ok()) return bytes.status();
    std::copy_n(bytes->data(), std::min(bytes->size(), sizeof(id)), reinterpret_cast<char*>(&id));
    return absl::OkStatus();
  }
  if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess) {
    return absl::UnavailableError(ErrorOf(result, nullptr));
  }
  context_.store->Set(key, std::string(reinterpret_cast<const char*>(&id), sizeof(id)));
  return absl::OkStatus();
}

absl::Status NcclGroup::Connect() {
  const c10::cuda::CUDAGuard guard(context_.device);
  const Clock::time_point deadline = Clock::now() + context_.init_timeout;
  ncclUniqueId id{};
  if (absl::Status shared = ShareId(id); !shared.ok()) return shared;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.commName = name_.c_str();
  const ncclResult_t result =
      ncclCommInitRankConfig(&comm_, static_cast<int>(ranks_.size()), id, static_cast<int>(rank_), &config);
  if (absl::Status status = AwaitNccl(result, deadline); !status.ok()) {
    const std::string text = absl::StrCat("group ", name_, " did not connect: ", status.message());
    context_.store->Fail(text);
    Abort();
    return absl::UnavailableError(context_.store->failure());
  }
  if (rank_ == 0) context_.store->Delete(absl::StrCat("nccl/", number_));  // all have read it
  watcher_ = std::thread([this] { Watch(); });
  return absl::OkStatus();
}

absl::Status NcclGroup::AwaitNccl(ncclResult_t result, Clock::time_point deadline) {
  while (result == ncclInProgress) {
    if (const ncclResult_t asked = ncclCommGetAsyncError(comm_, &result); asked != ncclSuccess) result = asked;
    if (result != ncclInProgress) break;
    if (context_.store->failed()) return absl::UnavailableError(context_.store->failure());
    if (Clock::now() > deadline) return absl::DeadlineExceededError("not all ranks came in time");
    std::this_thread::sleep_for(kPollTime);
  }
  return result == ncclSuccess ? absl::OkStatus() : absl::UnavailableError(ErrorOf(result, comm_));
}

void NcclGroup::ThrowIfFailed(const Operation& operation) const {
  if (!context_.store->failed()) return;
  throw CommunicationError(
      absl::StrCat(Describe(operation, name_, ranks_, ranks_[rank_]), ": ", context_.store->failure()));
}

std::shared_ptr<NcclOperation> NcclGroup::Run(const char* kind, bool is_collective, std::vector<at::Tensor> tensors,
                                              const Enqueue& enqueue, std::optional<std::chrono::milliseconds> limit) {
  const Operation operation = context_.progress->Begin(name_, kind, is_collective, limit.value_or(context_.timeout));
  ThrowIfFailed(operation);
  const c10::cuda::CUDAGuard guard(context_.device);
  c10::cuda::CUDAEvent ready(cudaEventDisableTiming), done(cudaEventDisableTiming);
  ready.record(c10::cuda::getCurrentCUDAStream());
  ready.block(stream_);
  {
    std::lock_guard<std::mutex> lock(comm_mutex_);
    if (comm_ == nullptr) ThrowIfFailed(operation);
    ncclResult_t result = ncclGroupStart();
    if (result == ncclSuccess) {
      enqueue(comm_, stream_.stream());  // its own errors come out of the end of the group
      result = ncclGroupEnd();
    }
    // Until then NCCL may not have put the operation on the stream.
    if (absl::Status status = AwaitNccl(result, Clock::now() + operation.limit); !status.ok()) {
      if (!context_.store->failed()) {
        context_.store->Fail(
            absl::IsDeadlineExceeded(status)
                ? DescribeTimeout(*context_.store, operation, name_, ranks_, ranks_[rank_], {})
                : absl::StrCat(Describe(operation, name_, ranks_, ranks_[rank_]), ": ", status.message()));
      }
      ThrowIfFailed(operation);
    }
  }
  done.record(stream_);
  auto under_way = std::make_shared<NcclOperation>(operation, std::move(done), std::move(tensors));
  std::lock_guard<std::mutex> lock(mutex_);
  DropFinished();
  pending_.push_back(under_way);
  changed_.notify_all();
  return under_way;
}

void NcclGroup::DropFinished() {
  while (!pending_.empty() && pending_.front()->done.query()) pending_.pop_front();
}

void NcclGroup::Watch() {
  const c10::cuda::CUDAGuard guard(context_.device);
  while (true) {
    std::shared_ptr<NcclOperation> oldest;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !pending_.empty(); });
      const bool stopping = stopping_;
      changed_.wait_for(lock, stopping ? kLastWatchTime : kWatchTime, [&] { return stopping_ != stopping; });
      try {
        DropFinished();
      } catch (const c10::Error& error) {  // a CUDA error, which the calling thread will meet, too
        context_.store->Fail(error.what_without_backtrace());
      }
      if (stopping_ && (pending_.empty() || context_.store->failed())) return Abort();
      if (pending_.empty()) continue;
      oldest = pending_.front();
    }
    ncclResult_t error = ncclSuccess;
    {
      // Held by an operation that still connects: that one looks by itself.
      std::unique_lock<std::mutex> lock(comm_mutex_, std::try_to_lock);
      if (lock.owns_lock() && comm_ != nullptr) ncclCommGetAsyncError(comm_, &error);
    }
    const std::string text = Describe(oldest->operation, name_, ranks_, ranks_[rank_]);
    if (error != ncclSuccess && error != ncclInProgress) {
      // NCCL notices the closed connections of a process that died; the store knows whose.
      if (context_.store->AwaitFailure(std::chrono::seconds(3)).empty()) {
        context_.store->Fail(absl::StrCat(text, ": ", ErrorOf(error, nullptr)));
      }
    } else if (!context_.store->failed() && Clock::now() > oldest->begun + oldest->operation.limit) {
      context_.store->Fail(DescribeTimeout(*context_.store, oldest->operation, name_, ranks_, ranks_[rank_], {}));
    }
    if (context_.store->failed()) {
      LOG(ERROR) << text << " is given up: " << context_.store->failure();
      return Abort();
    }
  }
}

// What runs on the GPU ends, too; results are garbage from here on, and every later call throws.
void NcclGroup::Abort() {
  std::lock_guard<std::mutex> lock(comm_mutex_);
  if (comm_ == nullptr || !context_.store->failed()) return;
  if (const ncclResult_t result = ncclCommAbort(comm_); result != ncclSuccess && result != ncclInProgress) {
    LOG(ERROR) << "group " << name_ << ": NCCL cannot abort: " << ncclGetErrorString(result);
  }
  comm_ = nullptr;
}

void NcclGroup::Close() {
  std::lock_guard<std::mutex> lock(comm_mutex_);
  if (comm_ == nullptr) return;
  const absl::Status finished = AwaitNccl(ncclCommFinalize(comm_), Clock::now() + kCloseTime);
  if (finished.ok()) {
    ncclCommDestroy(comm_);
  } else {
    ncclCommAbort(comm_);
  }
  comm_ = nullptr;
}

NcclGroup::~NcclGroup() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (watcher_.joinable()) watcher_.join();
  try {
    const c10::cuda::CUDAGuard guard(context_.device);
    Close();
  } catch (const c10::Error& error) {
    LOG(ERROR) << "group " << name_ << " did not close: " << error.what_without_backtrace();
  }
}

}  // namespace titan
