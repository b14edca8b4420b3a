#include "titan/data/shuffle_window.h"

#include <algorithm>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"
#include "titan/data/random.h"

namespace titan {
namespace {

constexpr int64_t kEndless = int64_t{1} << 40;
// Its own stream of random numbers: the order of shards has another.
constexpr uint64_t kPurpose = 0x77696E646F77;

// A source in the order of its windows. Reading goes on where it was as long as documents are asked for in order.
class WindowedSource : public DocumentSource {
 public:
  WindowedSource(std::unique_ptr<DocumentSource> source, const WindowOptions& options)
      : source_(std::move(source)), shard_starts_(source_->ShardStarts()), options_(options) {}

  int64_t size() const override { return options_.repeat ? kEndless : source_->size(); }

  absl::StatusOr<Document> Read(int64_t index) const override {
    absl::MutexLock lock(mutex_);
    const bool is_there = std::exchange(next_, -1) == index;
    if (!is_there) TITAN_RETURN_IF_ERROR(Seek(index));
    TITAN_ASSIGN_OR_RETURN(Document document, Advance(index));
    next_ = index + 1;  // after an error the order may be ahead of what was read: nothing goes on from there
    return document;
  }

  std::string Where(int64_t index) const override {
    absl::MutexLock lock(mutex_);
    if (index + 1 == next_) return source_->Where(newest_);
    WindowOrder order = OrderOf(index / source_->size());
    order.Seek(index % source_->size());
    return source_->Where(order.Next().value_or(0));
  }

  std::string fingerprint() const override { return source_->fingerprint(); }

 private:
  WindowOrder OrderOf(int64_t epoch) const {
    return WindowOrder({source_->size(), shard_starts_, options_.window, options_.seed, epoch});
  }

  absl::Status Seek(int64_t index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    kept_.clear();
    order_.emplace(OrderOf(index / source_->size()));
    order_->Seek(index % source_->size());
    return Keep(order_->Pending());
  }

  absl::Status Keep(const std::vector<int64_t>& numbers) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const int64_t number : numbers) {
      TITAN_ASSIGN_OR_RETURN(Document document, source_->Read(number));
      kept_.emplace(number, std::move(document));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Document> Advance(int64_t index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::optional<int64_t> number = order_->Next();
    if (!number.has_value()) {  // the epoch is over, and all that was kept is used up
      order_.emplace(OrderOf(index / source_->size()));
      number = order_->Next();
    }
    TITAN_RETURN_IF_ERROR(Keep(order_->TakeRead()));
    const auto found = kept_.find(*number);
    CHECK(found != kept_.end()) << "document " << *number << " was drawn before it was read";
    Document document = std::move(found->second);
    kept_.erase(found);
    newest_ = *number;
    return document;
  }

  const std::unique_ptr<DocumentSource> source_;
  const std::vector<int64_t> shard_starts_;
  const WindowOptions options_;
  mutable absl::Mutex mutex_;
  mutable std::optional<WindowOrder> order_ ABSL_GUARDED_BY(mutex_);
  mutable std::map<int64_t, Document> kept_ ABSL_GUARDED_BY(mutex_);  // read and not drawn, by number
  mutable int64_t next_ ABSL_GUARDED_BY(mutex_) = -1;                 // the place that order_ comes to; -1: none
  mutable int64_t newest_ ABSL_GUARDED_BY(mutex_) = 0;                // number of the document at next_ - 1
};

}  // namespace

WindowOrder::WindowOrder(const WindowOrderOptions& options)
    : options_(options), key_seed_(Mix(Mix(options.seed ^ kPurpose) ^ static_cast<uint64_t>(options.epoch))) {
  const int64_t num_shards = options_.shard_starts.size();
  const Permutation shuffled(num_shards, options_.seed, options_.epoch);
  int64_t rank = 0;
  for (int64_t i = 0; i < num_shards; ++i) {
    const int64_t shard = shuffled(i);
    const int64_t end = shard + 1 < num_shards ? options_.shard_starts[shard + 1] : options_.size;
    if (end == options_.shard_starts[shard]) continue;  // an empty file
    order_of_shards_.push_back(shard);
    first_rank_.push_back(rank);
    rank += end - options_.shard_starts[shard];
  }
  CHECK_EQ(rank, options_.size) << "shards do not cover the documents";
}

int64_t WindowOrder::DocumentAt(int64_t rank) const {
  const auto shard = std::upper_bound(first_rank_.begin(), first_rank_.end(), rank) - first_rank_.begin() - 1;
  return options_.shard_starts[order_of_shards_[shard]] + rank - first_rank_[shard];
}

void WindowOrder::ReadOne() {
  const uint64_t random = Mix(key_seed_ ^ static_cast<uint64_t>(next_rank_));
  pending_.push({next_rank_ + static_cast<int64_t>(random % options_.window), next_rank_});
  ++next_rank_;
}

// Nothing that is still to be read can come before the lowest key once reading has passed that.
WindowOrder::Entry WindowOrder::DrawOne() {
  while (next_rank_ < options_.size && (pending_.empty() || next_rank_ <= pending_.top().key)) ReadOne();
  const Entry drawn = pending_.top();
  pending_.pop();
  return drawn;
}

std::optional<int64_t> WindowOrder::Next() {
  if (next_rank_ == options_.size && pending_.empty()) return std::nullopt;
  const int64_t before = next_rank_;
  const int64_t document = DocumentAt(DrawOne().rank);
  for (int64_t rank = before; rank < next_rank_; ++rank) read_.push_back(DocumentAt(rank));
  return document;
}

// A document moves by less than the window: all that are a window or more behind `place` are drawn, and of the later
// ones those with the lowest keys.
void WindowOrder::Seek(int64_t place) {
  pending_ = {};
  read_.clear();
  next_rank_ = std::max<int64_t>(0, place - options_.window + 1);
  for (int64_t drawn = next_rank_; drawn < place; ++drawn) DrawOne();
}

std::vector<int64_t> WindowOrder::Pending() const {
  std::vector<int64_t> ranks;
  for (auto left = pending_; !left.empty(); left.pop()) ranks.push_back(left.top().rank);
  std::sort(ranks.begin(), ranks.end());
  for (int64_t& rank : ranks) rank = DocumentAt(rank);
  return ranks;
}

absl::StatusOr<std::unique_ptr<DocumentSource>> Windowed(std::unique_ptr<DocumentSource> source,
                                                         const WindowOptions& options) {
  TITAN_RETURN_IF_ERROR(CheckHasPairs(*source));
  return std::make_unique<WindowedSource>(std::move(source), options);
}

}  // namespace titan
