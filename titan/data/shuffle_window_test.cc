#include "titan/data/shuffle_window.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "titan/data/packer.h"

namespace titan {
namespace {

WindowOrderOptions Options(int64_t size, int64_t window, int64_t epoch = 0) {
  return {.size = size, .shard_starts = {0}, .window = window, .seed = 7, .epoch = epoch};
}

std::vector<int64_t> All(WindowOrder order) {
  std::vector<int64_t> documents;
  while (const std::optional<int64_t> next = order.Next()) documents.push_back(*next);
  return documents;
}

std::vector<int64_t> Sorted(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  return values;
}

std::vector<int64_t> Count(int64_t begin, int64_t end) {
  std::vector<int64_t> numbers;
  for (int64_t i = begin; i < end; ++i) numbers.push_back(i);
  return numbers;
}

TEST(WindowOrder, EveryDocumentComesOnce) {
  for (const int64_t size : {1, 2, 37, 500}) {
    for (const int64_t window : {1, 2, 10, 499, 5000}) {
      EXPECT_EQ(Sorted(All(WindowOrder(Options(size, window)))), Count(0, size)) << size << " " << window;
    }
  }
}

TEST(WindowOrder, ADocumentMovesByLessThanTheWindow) {
  constexpr int64_t kWindow = 50;
  const std::vector<int64_t> documents = All(WindowOrder(Options(2000, kWindow)));
  int64_t farthest = 0, moved = 0;
  for (int64_t place = 0; place < 2000; ++place) {
    farthest = std::max(farthest, std::abs(documents[place] - place));
    moved += documents[place] != place;
  }
  EXPECT_LT(farthest, kWindow);
  EXPECT_GT(farthest, kWindow / 2) << "it hardly shuffles";
  EXPECT_GT(moved, 1800);
  EXPECT_EQ(All(WindowOrder(Options(2000, 1))), Count(0, 2000)) << "a window of one document has nothing to choose";
}

TEST(WindowOrder, IsAFunctionOfSeedAndEpoch) {
  const std::vector<int64_t> first = All(WindowOrder(Options(300, 40)));
  EXPECT_EQ(All(WindowOrder(Options(300, 40))), first);
  EXPECT_NE(All(WindowOrder(Options(300, 40, /*epoch=*/1))), first);
  WindowOrderOptions other_seed = Options(300, 40);
  other_seed.seed = 8;
  EXPECT_NE(All(WindowOrder(other_seed)), first);
}

TEST(WindowOrder, ContinuesAtAnyPlace) {
  for (const int64_t window : {1, 3, 40, 1000}) {
    const std::vector<int64_t> expected = All(WindowOrder(Options(300, window)));
    for (int64_t place = 0; place <= 300; ++place) {
      WindowOrder order(Options(300, window));
      order.Seek(place);
      EXPECT_LT(static_cast<int64_t>(order.Pending().size()), window);
      std::vector<int64_t> rest = All(order);
      ASSERT_EQ(rest, std::vector<int64_t>(expected.begin() + place, expected.end())) << window << " " << place;
    }
  }
}

// Files of 5, 0, 20, 1 and 74 documents.
TEST(WindowOrder, ReadsEachShardFromFrontToBackAndShardsInANewOrder) {
  const std::vector<int64_t> starts = {0, 5, 5, 25, 26};
  std::vector<std::vector<int64_t>> orders_of_shards;
  for (int64_t epoch = 0; epoch < 8; ++epoch) {
    WindowOrder order({.size = 100, .shard_starts = starts, .window = 10, .seed = 3, .epoch = epoch});
    std::vector<int64_t> read, shards;
    while (order.Next().has_value()) {
      for (const int64_t document : order.TakeRead()) read.push_back(document);
    }
    EXPECT_EQ(Sorted(read), Count(0, 100));
    for (size_t i = 0; i < read.size(); ++i) {
      const bool begins = std::count(starts.begin(), starts.end(), read[i]) > 0;
      if (begins) shards.push_back(read[i]);
      if (i > 0 && !begins) {
        ASSERT_EQ(read[i], read[i - 1] + 1) << "a jump within a shard";
      }
    }
    EXPECT_EQ(shards.size(), 4u);
    orders_of_shards.push_back(shards);
  }
  std::sort(orders_of_shards.begin(), orders_of_shards.end());
  EXPECT_GT(std::unique(orders_of_shards.begin(), orders_of_shards.end()) - orders_of_shards.begin(), 3);
}

// Document d is {d, 0}; counts and remembers what is read.
class Recording : public DocumentSource {
 public:
  Recording(int64_t size, std::vector<int64_t>* read, int64_t bad = -1) : size_(size), read_(read), bad_(bad) {}

  int64_t size() const override { return size_; }
  absl::StatusOr<Document> Read(int64_t index) const override {
    read_->push_back(index);
    if (index == bad_) return absl::DataLossError(absl::StrCat("document ", index, " is bad"));
    return Document({index, 0});
  }
  std::string Where(int64_t index) const override { return absl::StrCat("document ", index); }
  std::string fingerprint() const override { return "recording"; }

 private:
  const int64_t size_;
  std::vector<int64_t>* const read_;
  const int64_t bad_;
};

std::vector<int64_t> Take(const DocumentSource& source, int64_t begin, int64_t end) {
  std::vector<int64_t> documents;
  for (int64_t i = begin; i < end; ++i) documents.push_back((*source.Read(i))[0]);
  return documents;
}

TEST(Windowed, ReadsEachDocumentOnceInAnEpochAndInOrder) {
  std::vector<int64_t> read;
  const auto windowed = *Windowed(std::make_unique<Recording>(200, &read), {.window = 30, .seed = 5, .repeat = true});
  read.clear();
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    const std::vector<int64_t> documents = Take(*windowed, 200 * epoch, 200 * (epoch + 1));
    EXPECT_EQ(documents, All(WindowOrder({200, {0}, 30, 5, epoch})));
    EXPECT_EQ(read, Count(0, 200)) << "from front to back";
    read.clear();
  }
}

TEST(Windowed, ContinuesAtAnyPlaceAfterReadingAWindow) {
  std::vector<int64_t> read;
  const WindowOptions options = {.window = 30, .seed = 5, .repeat = true};
  const std::vector<int64_t> expected = Take(**Windowed(std::make_unique<Recording>(100, &read), options), 0, 250);
  for (int64_t place = 0; place < 250; place += 7) {
    const auto other = *Windowed(std::make_unique<Recording>(100, &read), options);
    read.clear();
    EXPECT_EQ(Take(*other, place, place + 1).front(), expected[place]);
    EXPECT_LE(read.size(), 31u);
    EXPECT_EQ(other->Where(place), absl::StrCat("document ", expected[place]));
    EXPECT_EQ(other->Where(3), absl::StrCat("document ", expected[3]));
    EXPECT_EQ(Take(*other, place + 1, 250), std::vector<int64_t>(expected.begin() + place + 1, expected.end()));
  }
}

TEST(Windowed, EndsWithTheCorpusUnlessItRepeats) {
  std::vector<int64_t> read;
  const auto windowed = *Windowed(std::make_unique<Recording>(50, &read), {.window = 8, .seed = 5, .repeat = false});
  ASSERT_EQ(windowed->size(), 50);
  EXPECT_EQ(Sorted(Take(*windowed, 0, 50)), Count(0, 50));
}

TEST(Windowed, AnErrorComesAgain) {
  std::vector<int64_t> read;
  const auto windowed =
      *Windowed(std::make_unique<Recording>(50, &read, /*bad=*/20), {.window = 8, .seed = 5, .repeat = true});
  int64_t place = 0;
  while (windowed->Read(place).ok()) ++place;
  EXPECT_LE(place, 20);
  EXPECT_GT(place, 10);
  EXPECT_EQ(windowed->Read(place).status().message(), "document 20 is bad");
  EXPECT_TRUE(windowed->Read(0).ok());
}

TEST(Windowed, RefusesACorpusWithoutPairs) {
  class Empty : public DocumentSource {
   public:
    int64_t size() const override { return 3; }
    absl::StatusOr<Document> Read(int64_t) const override { return Document({1}); }
    std::string Where(int64_t) const override { return "here"; }
    std::string fingerprint() const override { return ""; }
  };
  EXPECT_EQ(Windowed(std::make_unique<Empty>(), {}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace titan
