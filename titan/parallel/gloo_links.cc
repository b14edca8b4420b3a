#include "titan/parallel/gloo_links.h"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gloo/transport/tcp/attr.h"
#include "gloo/transport/tcp/context.h"
#include "gloo/transport/tcp/device.h"

namespace titan {
namespace {

constexpr size_t kRetired = 256;

std::string KeyOf(int64_t rank) { return absl::StrCat("gloo/", rank); }

// Gloo reports errors as exceptions.
template <typename Function>
absl::Status Catch(const Function& function) {
  try {
    function();
    return absl::OkStatus();
  } catch (const std::exception& error) {
    return absl::UnavailableError(error.what());
  }
}

}  // namespace

// Gloo keeps to itself how all connections are given up.
class GlooLinks::Context : public gloo::transport::tcp::Context {
 public:
  using gloo::transport::tcp::Context::Context;
  using gloo::transport::tcp::Context::signalException;
};

GlooLinks::GlooLinks(std::shared_ptr<Context> context) : context_(std::move(context)) {}

absl::StatusOr<std::shared_ptr<GlooLinks>> GlooLinks::Connect(StoreClient& store, int64_t rank, int64_t world_size,
                                                              std::chrono::milliseconds timeout) {
  std::shared_ptr<GlooLinks> links;
  std::string addresses;  // where this process listens for each other one, rank by rank without its own
  size_t address_size = 0;
  absl::Status status = Catch([&] {
    const gloo::transport::tcp::attr attributes(store.address().c_str());
    auto device =
        std::dynamic_pointer_cast<gloo::transport::tcp::Device>(gloo::transport::tcp::CreateDevice(attributes));
    auto context = std::make_shared<Context>(std::move(device), static_cast<int>(rank), static_cast<int>(world_size));
    context->setTimeout(timeout);
    for (int64_t peer = 0; peer < world_size; ++peer) {
      if (peer == rank) continue;
      const std::vector<char> address = context->createPair(static_cast<int>(peer))->address().bytes();
      address_size = address.size();
      addresses.append(address.begin(), address.end());
    }
    links = std::shared_ptr<GlooLinks>(new GlooLinks(std::move(context)));
  });
  if (!status.ok()) {
    return absl::UnavailableError(
        absl::StrCat("rank ", rank, " cannot listen at ", store.address(), ": ", status.message()));
  }
  store.OnFailure([weak = std::weak_ptr<GlooLinks>(links)] {
    if (const std::shared_ptr<GlooLinks> alive = weak.lock()) alive->Break();
  });
  store.Set(KeyOf(rank), addresses);
  for (int64_t peer = 0; peer < world_size; ++peer) {
    if (peer == rank) continue;
    absl::StatusOr<std::string> theirs = store.Get(KeyOf(peer), timeout);
    if (!theirs.ok()) return theirs.status();
    status = Catch([&] {
      const std::string mine = theirs->substr(address_size * (rank < peer ? rank : rank - 1), address_size);
      links->context_->getPair(static_cast<int>(peer))->connect(std::vector<char>(mine.begin(), mine.end()));
    });
    if (!status.ok()) {
      store.Fail(absl::StrCat("it cannot connect to rank ", peer, " from ", store.address(), ": ", status.message()));
      return absl::UnavailableError(store.failure());
    }
  }
  return links;
}

absl::StatusOr<Message> GlooLinks::Send(const void* data, size_t bytes, int64_t peer, uint64_t slot) {
  Message message{nullptr, peer, true};
  absl::Status status = Catch([&] {
    message.buffer = context_->createUnboundBuffer(const_cast<void*>(data), bytes);
    message.buffer->send(static_cast<int>(peer), slot);
  });
  if (!status.ok()) return status;
  return message;
}

absl::StatusOr<Message> GlooLinks::Receive(void* data, size_t bytes, int64_t peer, uint64_t slot) {
  Message message{nullptr, peer, false};
  absl::Status status = Catch([&] {
    message.buffer = context_->createUnboundBuffer(data, bytes);
    message.buffer->recv(static_cast<int>(peer), slot);
  });
  if (!status.ok()) return status;
  return message;
}

absl::Status GlooLinks::Wait(Message& message, std::chrono::steady_clock::time_point deadline) {
  gloo::transport::UnboundBuffer& buffer = *message.buffer;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (broken_) return absl::UnavailableError("the connections were given up");
    waiting_.insert(&buffer);
  }
  bool done = false;
  absl::Status status = Catch([&] {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const auto limit = std::max(left, std::chrono::milliseconds(1));
    done = message.is_send ? buffer.waitSend(limit) : buffer.waitRecv(limit);
  });
  {
    std::lock_guard<std::mutex> lock(mutex_);
    waiting_.erase(&buffer);
  }
  if (!status.ok() && std::chrono::steady_clock::now() >= deadline) {
    return absl::DeadlineExceededError(status.message());
  }
  if (status.ok() && !done) return absl::UnavailableError("the connections were given up");
  return status;
}

void GlooLinks::Retire(Message message) {
  Message oldest;  // destroyed without the lock
  std::lock_guard<std::mutex> lock(mutex_);
  retired_.push_back(std::move(message));
  if (retired_.size() <= kRetired) return;
  oldest = std::move(retired_.front());
  retired_.pop_front();
}

void GlooLinks::Break() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (broken_) return;
    broken_ = true;
    // Gloo itself does not wake those whose message is half through.
    for (gloo::transport::UnboundBuffer* buffer : waiting_) {
      buffer->abortWaitSend();
      buffer->abortWaitRecv();
    }
  }
  context_->signalException("the connections were given up");
}

}  // namespace titan
