// Mixed of document_source.h.

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"
#include "titan/data/document_source.h"
#include "titan/data/permutation.h"
#include "titan/data/random.h"

namespace titan {
namespace {

constexpr int64_t kEndless = int64_t{1} << 40;
// Draws per block, up to rounding: the finest share.
constexpr int64_t kBlock = 4096;

// Draws come in blocks. Each block holds the same number of draws of a source, in an order of its own, so that the
// place of any draw is known without those before its block.
class MixedSource : public DocumentSource {
 public:
  MixedSource(std::vector<WeightedSource> sources, const MixOptions& options)
      : sources_(std::move(sources)), options_(options) {
    double sum = 0;
    for (const WeightedSource& source : sources_) sum += source.weight;
    for (const WeightedSource& source : sources_) {
      per_block_.push_back(std::max<int64_t>(1, std::llround(source.weight / sum * kBlock)));
      block_size_ += per_block_.back();
    }
    size_ = options_.repeat ? kEndless : DrawsUntilOneEnds();
  }

  int64_t size() const override { return size_; }

  absl::StatusOr<Document> Read(int64_t index) const override {
    const Draw draw = DrawAt(index);
    return sources_[draw.source].documents->Read(DocumentOf(draw));
  }

  std::string Where(int64_t index) const override {
    const Draw draw = DrawAt(index);
    return sources_[draw.source].documents->Where(DocumentOf(draw));
  }

  std::string fingerprint() const override {
    std::string all = "mixed\n";
    for (size_t s = 0; s < sources_.size(); ++s) {
      absl::StrAppend(&all, sources_[s].documents->fingerprint(), " ", per_block_[s], "\n");
    }
    return Sha256Hex(all);
  }

 private:
  struct Draw {
    size_t source;
    int64_t number;  // among the draws of that source
  };

  std::vector<Draw> MakeBlock(int64_t block) const {
    std::vector<size_t> source_of;  // before they are put in order
    std::vector<int64_t> next;
    for (size_t s = 0; s < sources_.size(); ++s) {
      source_of.insert(source_of.end(), per_block_[s], s);
      next.push_back(block * per_block_[s]);
    }
    const Permutation order(block_size_, Mix(options_.seed), block);
    std::vector<Draw> draws;
    for (int64_t i = 0; i < block_size_; ++i) {
      const size_t source = source_of[order(i)];
      draws.push_back({source, next[source]++});
    }
    return draws;
  }

  Draw DrawAt(int64_t index) const {
    absl::MutexLock lock(mutex_);
    const int64_t block = index / block_size_;
    if (block != cached_block_) {
      cached_draws_ = MakeBlock(block);
      cached_block_ = block;
    }
    return cached_draws_[index % block_size_];
  }

  // Where the draw lies in its source, which goes through epochs of its own.
  int64_t DocumentOf(const Draw& draw) const {
    const int64_t size = sources_[draw.source].documents->size();
    const int64_t place = draw.number % size;
    if (!options_.shuffle) return place;
    return Permutation(size, options_.seed + draw.source, draw.number / size)(place);
  }

  int64_t DrawsUntilOneEnds() const {
    int64_t block = kEndless;  // the first one that asks for more than a source has
    for (size_t s = 0; s < sources_.size(); ++s) {
      block = std::min(block, sources_[s].documents->size() / per_block_[s]);
    }
    const std::vector<Draw> draws = MakeBlock(block);
    const auto end = std::find_if(draws.begin(), draws.end(), [&](const Draw& draw) {
      return draw.number >= sources_[draw.source].documents->size();
    });
    return block * block_size_ + (end - draws.begin());
  }

  const std::vector<WeightedSource> sources_;
  const MixOptions options_;
  std::vector<int64_t> per_block_;  // by source: its draws
  int64_t block_size_ = 0;
  int64_t size_ = 0;
  mutable absl::Mutex mutex_;
  mutable int64_t cached_block_ ABSL_GUARDED_BY(mutex_) = -1;
  mutable std::vector<Draw> cached_draws_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<DocumentSource>> Mixed(std::vector<WeightedSource> sources, const MixOptions& options) {
  for (const WeightedSource& source : sources) TITAN_RETURN_IF_ERROR(CheckHasPairs(*source.documents));
  return std::make_unique<MixedSource>(std::move(sources), options);
}

}  // namespace titan
