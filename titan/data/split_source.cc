#include "titan/data/split_source.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"
#include "titan/data/random.h"

namespace titan {
namespace {

// Its own stream of random numbers: the order of documents has another.
constexpr uint64_t kPurpose = 0x76616C6964617465;

uint64_t HashOf(int64_t document, uint64_t seed) { return Mix(Mix(seed ^ kPurpose) ^ static_cast<uint64_t>(document)); }

std::vector<int64_t> WithHashBelow(int64_t corpus_size, const Holdout& holdout) {
  const auto limit = static_cast<uint64_t>(std::ldexp(holdout.share, 64));
  std::vector<int64_t> documents;
  for (int64_t i = 0; i < corpus_size; ++i) {
    if (HashOf(i, holdout.seed) < limit) documents.push_back(i);
  }
  return documents;
}

// In memory for that many, however large the corpus is.
std::vector<int64_t> WithLowestHashes(int64_t corpus_size, const Holdout& holdout) {
  std::priority_queue<std::pair<uint64_t, int64_t>> lowest;  // its highest first
  for (int64_t i = 0; i < corpus_size; ++i) {
    const std::pair<uint64_t, int64_t> candidate = {HashOf(i, holdout.seed), i};
    if (static_cast<int64_t>(lowest.size()) < holdout.documents) {
      lowest.push(candidate);
    } else if (candidate < lowest.top()) {
      lowest.pop();
      lowest.push(candidate);
    }
  }
  std::vector<int64_t> documents;
  for (; !lowest.empty(); lowest.pop()) documents.push_back(lowest.top().second);
  std::sort(documents.begin(), documents.end());
  return documents;
}

class HeldOutPart : public DocumentSource {
 public:
  HeldOutPart(std::unique_ptr<DocumentSource> corpus, std::vector<int64_t> held_out, std::string fingerprint)
      : corpus_(std::move(corpus)), held_out_(std::move(held_out)), fingerprint_(std::move(fingerprint)) {}

  int64_t size() const override { return held_out_.size(); }
  absl::StatusOr<Document> Read(int64_t index) const override { return corpus_->Read(held_out_[index]); }
  std::string Where(int64_t index) const override { return corpus_->Where(held_out_[index]); }
  std::string fingerprint() const override { return fingerprint_; }

 private:
  const std::unique_ptr<DocumentSource> corpus_;
  const std::vector<int64_t> held_out_;  // ascending
  const std::string fingerprint_;
};

class TrainingPart : public DocumentSource {
 public:
  TrainingPart(std::unique_ptr<DocumentSource> corpus, std::vector<int64_t> held_out, std::string fingerprint)
      : corpus_(std::move(corpus)), held_out_(std::move(held_out)), fingerprint_(std::move(fingerprint)) {}

  int64_t size() const override { return corpus_->size() - static_cast<int64_t>(held_out_.size()); }
  absl::StatusOr<Document> Read(int64_t index) const override { return corpus_->Read(NumberOf(index)); }
  std::string Where(int64_t index) const override { return corpus_->Where(NumberOf(index)); }
  std::string fingerprint() const override { return fingerprint_; }

  std::vector<int64_t> ShardStarts() const override {
    std::vector<int64_t> starts;
    for (const int64_t start : corpus_->ShardStarts()) {
      const auto before = std::lower_bound(held_out_.begin(), held_out_.end(), start) - held_out_.begin();
      // A file may be held out as a whole.
      if (starts.empty() || start - before > starts.back()) starts.push_back(start - before);
    }
    while (starts.size() > 1 && starts.back() >= size()) starts.pop_back();
    return starts;
  }

 private:
  // In the corpus. Before the i-th document that is held out there are held_out_[i] - i that are not.
  int64_t NumberOf(int64_t index) const {
    int64_t begin = 0, end = held_out_.size();  // how many held-out documents come before it
    while (begin < end) {
      const int64_t middle = begin + (end - begin) / 2;
      if (held_out_[middle] - middle <= index) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    return index + begin;
  }

  const std::unique_ptr<DocumentSource> corpus_;
  const std::vector<int64_t> held_out_;  // ascending
  const std::string fingerprint_;
};

std::string FingerprintOf(const DocumentSource& corpus, const Holdout& holdout, CorpusPart part) {
  return Sha256Hex(absl::StrCat(part == CorpusPart::kTraining ? "training" : "held out", "\n", corpus.fingerprint(),
                                "\n", static_cast<uint64_t>(std::ldexp(holdout.share, 64)), " ", holdout.documents, " ",
                                holdout.seed));
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> HeldOutDocuments(int64_t corpus_size, const Holdout& holdout) {
  if (holdout.documents >= corpus_size) {
    return absl::InvalidArgumentError(absl::StrCat("validation_documents: ", holdout.documents, " of the ", corpus_size,
                                                   " documents are none left to train on; lower it"));
  }
  std::vector<int64_t> documents =
      holdout.documents > 0 ? WithLowestHashes(corpus_size, holdout) : WithHashBelow(corpus_size, holdout);
  if (documents.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("validation_split: a share of ", holdout.share, " of ", corpus_size,
                                                   " documents came out as none; raise it, or say how many with "
                                                   "validation_documents"));
  }
  if (static_cast<int64_t>(documents.size()) == corpus_size) {
    return absl::InvalidArgumentError(absl::StrCat("validation_split: a share of ", holdout.share, " came out as all ",
                                                   corpus_size, " documents; say how many with validation_documents"));
  }
  return documents;
}

absl::StatusOr<std::unique_ptr<DocumentSource>> PartOf(std::unique_ptr<DocumentSource> corpus, const Holdout& holdout,
                                                       CorpusPart part) {
  if (holdout.is_nothing() && part == CorpusPart::kTraining) return corpus;
  if (holdout.is_nothing()) {
    return absl::InvalidArgumentError("it holds out no documents; set its validation_split or validation_documents");
  }
  TITAN_ASSIGN_OR_RETURN(std::vector<int64_t> held_out, HeldOutDocuments(corpus->size(), holdout));
  std::string fingerprint = FingerprintOf(*corpus, holdout, part);
  if (part == CorpusPart::kTraining) {
    return std::make_unique<TrainingPart>(std::move(corpus), std::move(held_out), std::move(fingerprint));
  }
  return std::make_unique<HeldOutPart>(std::move(corpus), std::move(held_out), std::move(fingerprint));
}

}  // namespace titan
