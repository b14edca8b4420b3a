#include "titan/data/split_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace titan {
namespace {

// Document d is {d, 0}, in files of `shard` documents.
class Numbered : public DocumentSource {
 public:
  explicit Numbered(int64_t size, int64_t shard = 1000) : size_(size), shard_(shard) {}

  int64_t size() const override { return size_; }
  absl::StatusOr<Document> Read(int64_t index) const override { return Document({index, 0}); }
  std::string Where(int64_t index) const override { return absl::StrCat("document ", index); }
  std::string fingerprint() const override { return absl::StrCat("numbered ", size_); }
  std::vector<int64_t> ShardStarts() const override {
    std::vector<int64_t> starts;
    for (int64_t i = 0; i < size_; i += shard_) starts.push_back(i);
    return starts;
  }

 private:
  const int64_t size_;
  const int64_t shard_;
};

std::unique_ptr<DocumentSource> Part(int64_t size, const Holdout& holdout, CorpusPart part, int64_t shard = 1000) {
  auto result = PartOf(std::make_unique<Numbered>(size, shard), holdout, part);
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

std::vector<int64_t> DocumentsOf(const DocumentSource& source) {
  std::vector<int64_t> documents;
  for (int64_t i = 0; i < source.size(); ++i) {
    documents.push_back((*source.Read(i))[0]);
    EXPECT_EQ(source.Where(i), absl::StrCat("document ", documents.back()));
  }
  return documents;
}

TEST(SplitSource, PartsAreDisjointAndCompleteAndInOrder) {
  for (const Holdout& holdout :
       {Holdout{.share = 0.01}, {.share = 0.3, .seed = 9}, {.documents = 1}, {.documents = 137}, {.documents = 999}}) {
    const std::vector<int64_t> training = DocumentsOf(*Part(1000, holdout, CorpusPart::kTraining));
    const std::vector<int64_t> held_out = DocumentsOf(*Part(1000, holdout, CorpusPart::kHeldOut));
    EXPECT_TRUE(std::is_sorted(training.begin(), training.end()));
    EXPECT_TRUE(std::is_sorted(held_out.begin(), held_out.end()));
    std::vector<int64_t> all = training;
    all.insert(all.end(), held_out.begin(), held_out.end());
    std::sort(all.begin(), all.end());
    ASSERT_EQ(all.size(), 1000u) << holdout.share << " " << holdout.documents;
    for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(all[i], i);
    if (holdout.documents > 0) {
      EXPECT_EQ(static_cast<int64_t>(held_out.size()), holdout.documents);
    }
  }
}

TEST(SplitSource, TakesTheShareEverywhereInTheCorpus) {
  const std::vector<int64_t> held_out = *HeldOutDocuments(100000, {.share = 0.02});
  EXPECT_NEAR(held_out.size(), 2000, 150);
  for (int64_t tenth = 0; tenth < 10; ++tenth) {
    const auto count = std::count_if(held_out.begin(), held_out.end(), [&](int64_t d) { return d / 10000 == tenth; });
    EXPECT_NEAR(count, 200, 60);
  }
}

TEST(SplitSource, TheSeedDecides) {
  EXPECT_NE(*HeldOutDocuments(1000, {.share = 0.1, .seed = 1}), *HeldOutDocuments(1000, {.share = 0.1, .seed = 2}));
  EXPECT_NE(*HeldOutDocuments(1000, {.documents = 9, .seed = 1}), *HeldOutDocuments(1000, {.documents = 9, .seed = 2}));
}

// What is trained on never becomes validation data, nor the other way round.
TEST(SplitSource, ACorpusThatGrowsKeepsItsSplit) {
  const std::vector<int64_t> before = *HeldOutDocuments(1000, {.share = 0.1});
  std::vector<int64_t> after = *HeldOutDocuments(5000, {.share = 0.1});
  after.erase(std::lower_bound(after.begin(), after.end(), 1000), after.end());
  EXPECT_EQ(after, before);
}

TEST(SplitSource, MoreDocumentsIncludeTheFewer) {
  const std::vector<int64_t> few = *HeldOutDocuments(1000, {.documents = 20});
  const std::vector<int64_t> many = *HeldOutDocuments(1000, {.documents = 50});
  EXPECT_TRUE(std::includes(many.begin(), many.end(), few.begin(), few.end()));
}

TEST(SplitSource, FingerprintsTellPartsAndSplitsApart) {
  std::set<std::string> fingerprints;
  for (const Holdout& holdout :
       {Holdout{.share = 0.1}, {.share = 0.2}, {.documents = 10}, {.documents = 10, .seed = 1}}) {
    fingerprints.insert(Part(1000, holdout, CorpusPart::kTraining)->fingerprint());
    fingerprints.insert(Part(1000, holdout, CorpusPart::kHeldOut)->fingerprint());
  }
  fingerprints.insert(Part(1000, {}, CorpusPart::kTraining)->fingerprint());
  EXPECT_EQ(fingerprints.size(), 9u);
  EXPECT_EQ(Part(1000, {}, CorpusPart::kTraining)->fingerprint(), Numbered(1000).fingerprint());
}

// Shards of the training part begin where the first document that is left of a shard is.
TEST(SplitSource, KeepsShards) {
  for (const int64_t shard : {1, 3, 100}) {
    const auto training = Part(500, {.share = 0.4}, CorpusPart::kTraining, shard);
    const std::vector<int64_t> documents = DocumentsOf(*training);
    std::vector<int64_t> expected;
    for (size_t i = 0; i < documents.size(); ++i) {
      if (i == 0 || documents[i] / shard != documents[i - 1] / shard) expected.push_back(i);
    }
    EXPECT_EQ(training->ShardStarts(), expected) << shard;
  }
}

TEST(SplitSource, RefusesNothingAndEverything) {
  const auto message = [](int64_t size, const Holdout& holdout) {
    const absl::Status status = PartOf(std::make_unique<Numbered>(size), holdout, CorpusPart::kHeldOut).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_NE(message(10, {}).find("holds out no documents"), std::string::npos);
  EXPECT_NE(message(10, {.documents = 10}).find("none left to train on"), std::string::npos);
  EXPECT_NE(message(10, {.share = 1e-9}).find("say how many with validation_documents"), std::string::npos);
  EXPECT_NE(message(1, {.share = 0.999999999}).find("came out as all"), std::string::npos);
}

}  // namespace
}  // namespace titan
