#include "titan/parallel/gloo_group.h"

#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/parallel/communicator.h"

namespace titan {
namespace {

// A connection that breaks is nearly always a process that died, which the store knows soon.
constexpr std::chrono::milliseconds kFailureTime{3'000};

constexpr int kMessageBits = 40;  // of a slot; the others are the group's number

}  // namespace

GlooGroup::GlooGroup(const GlooContext& context, std::string name, std::vector<int64_t> ranks, int64_t rank,
                     int64_t number)
    : context_(context),
      name_(std::move(name)),
      ranks_(std::move(ranks)),
      rank_(rank),
      number_(number),
      sent_(ranks_.size()),
      received_(ranks_.size()) {}

Operation GlooGroup::Begin(const char* kind, bool is_collective, std::optional<std::chrono::milliseconds> limit) {
  const Operation operation = context_.progress->Begin(name_, kind, is_collective, limit.value_or(context_.timeout));
  if (context_.store->failed()) Fail(operation, absl::UnavailableError(""), 0);
  return operation;
}

GlooGroup::Channel GlooGroup::ReserveSends(int64_t member, int64_t messages) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Channel channel{member, true, static_cast<uint64_t>(number_) << kMessageBits | sent_[member]};
  sent_[member] += messages;
  return channel;
}

GlooGroup::Channel GlooGroup::ReserveReceives(int64_t member, int64_t messages) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Channel channel{member, false, static_cast<uint64_t>(number_) << kMessageBits | received_[member]};
  received_[member] += messages;
  return channel;
}

void GlooGroup::Post(const Operation& operation, const Channel& channel, int64_t index, const void* data, size_t bytes,
                     std::vector<Message>& messages) {
  if (bytes == 0) return;
  const int64_t peer = ranks_[channel.member];
  const uint64_t slot = channel.slot + index;
  absl::StatusOr<Message> message = channel.is_send
                                        ? context_.links->Send(data, bytes, peer, slot)
                                        : context_.links->Receive(const_cast<void*>(data), bytes, peer, slot);
  if (!message.ok()) Fail(operation, message.status(), peer);
  messages.push_back(*std::move(message));
}

void GlooGroup::WaitFor(const Operation& operation, std::vector<Message>& messages) {
  const auto deadline = std::chrono::steady_clock::now() + operation.limit;
  for (Message& message : messages) {
    if (absl::Status status = context_.links->Wait(message, deadline); !status.ok()) {
      Fail(operation, status, message.peer);
    }
  }
  for (Message& message : messages) context_.links->Retire(std::move(message));
  messages.clear();
}

void GlooGroup::Fail(const Operation& operation, const absl::Status& status, int64_t awaited) {
  StoreClient& store = *context_.store;
  const int64_t global_rank = ranks_[rank_];
  std::string text;
  if (absl::IsDeadlineExceeded(status)) {
    text = DescribeTimeout(store, operation, name_, ranks_, global_rank, {awaited});
    store.Fail(text);
  } else if (store.AwaitFailure(kFailureTime).empty()) {
    store.Fail(absl::StrCat("it lost the connection to rank ", awaited, ": ", status.message()));
  }
  const std::string failure = store.failure();
  if (!text.empty() && absl::EndsWith(failure, text)) throw CommunicationError(text);
  throw CommunicationError(absl::StrCat(Describe(operation, name_, ranks_, global_rank), ": ", failure));
}

}  // namespace titan
