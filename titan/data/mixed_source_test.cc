#include <gtest/gtest.h>

#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "titan/data/document_source.h"
#include "titan/data/packer.h"

namespace titan {
namespace {

// Document d is {1000 * name + d, 0}, or one token alone if `is_empty`.
class Numbered : public DocumentSource {
 public:
  Numbered(int64_t name, int64_t size, bool is_empty = false) : name_(name), size_(size), is_empty_(is_empty) {}

  int64_t size() const override { return size_; }
  absl::StatusOr<Document> Read(int64_t index) const override {
    std::vector<int64_t> ids = {1000 * name_ + index, 0};
    if (is_empty_) ids.pop_back();
    return Document(std::move(ids));
  }
  std::string Where(int64_t index) const override { return absl::StrCat("source ", name_, " document ", index); }
  std::string fingerprint() const override { return absl::StrCat(name_, " ", size_); }

 private:
  const int64_t name_;
  const int64_t size_;
  const bool is_empty_;
};

// Sources 0, 1, ... of 100, 101, ... documents.
std::unique_ptr<DocumentSource> Mix(const std::vector<double>& weights, const MixOptions& options) {
  std::vector<WeightedSource> sources;
  for (size_t i = 0; i < weights.size(); ++i) {
    sources.push_back({std::make_unique<Numbered>(i, 100 + i), weights[i]});
  }
  auto mixed = Mixed(std::move(sources), options);
  EXPECT_TRUE(mixed.ok()) << mixed.status();
  return *std::move(mixed);
}

std::vector<int64_t> Draws(const DocumentSource& mixed, int64_t count) {
  std::vector<int64_t> draws;
  for (int64_t i = 0; i < count; ++i) draws.push_back((*mixed.Read(i))[0]);
  return draws;
}

TEST(Mixed, DrawsInProportionToTheWeights) {
  const auto mixed = Mix({5, 2.5, 0.5}, {.shuffle = true, .seed = 7, .repeat = true});
  std::map<int64_t, int64_t> of_source;
  constexpr int64_t kDraws = 40000;
  for (const int64_t draw : Draws(*mixed, kDraws)) ++of_source[draw / 1000];
  EXPECT_NEAR(of_source[0] / double{kDraws}, 5 / 8.0, 0.002);
  EXPECT_NEAR(of_source[1] / double{kDraws}, 2.5 / 8, 0.002);
  EXPECT_NEAR(of_source[2] / double{kDraws}, 0.5 / 8, 0.002);
}

TEST(Mixed, EverySourceGoesThroughEpochsOfItsOwn) {
  for (const bool shuffle : {false, true}) {
    const auto mixed = Mix({3, 1}, {.shuffle = shuffle, .seed = 7, .repeat = true});
    std::map<int64_t, std::vector<int64_t>> of_source;
    for (const int64_t draw : Draws(*mixed, 9000)) of_source[draw / 1000].push_back(draw % 1000);
    for (const int64_t source : {0, 1}) {
      const std::vector<int64_t>& drawn = of_source[source];
      const size_t size = 100 + source;
      ASSERT_GT(drawn.size(), 10 * size);
      const std::vector<int64_t> first(drawn.begin(), drawn.begin() + size);
      for (size_t begin = 0; begin + size <= drawn.size(); begin += size) {
        const std::vector<int64_t> epoch(drawn.begin() + begin, drawn.begin() + begin + size);
        EXPECT_EQ(std::set<int64_t>(epoch.begin(), epoch.end()).size(), size) << "a document came twice";
        EXPECT_EQ(epoch == first, !shuffle || begin == 0);
      }
    }
  }
}

TEST(Mixed, ADrawIsAFunctionOfSeedAndPlaceAlone) {
  const MixOptions options = {.shuffle = true, .seed = 7, .repeat = true};
  const std::vector<int64_t> draws = Draws(*Mix({2, 1}, options), 10000);
  const auto other = Mix({2, 1}, options);
  for (int64_t i = 9999; i >= 0; i -= 997) EXPECT_EQ((*other->Read(i))[0], draws[i]);
  EXPECT_NE(Draws(*Mix({2, 1}, {.shuffle = true, .seed = 8, .repeat = true}), 100),
            std::vector<int64_t>(draws.begin(), draws.begin() + 100));
  EXPECT_EQ(other->fingerprint(), Mix({4, 2}, options)->fingerprint());
  EXPECT_NE(other->fingerprint(), Mix({1, 2}, options)->fingerprint());
}

TEST(Mixed, WithoutRepeatEndsWhereTheFirstSourceWouldStartAgain) {
  for (const std::vector<double>& weights : {std::vector<double>{3, 1}, {1, 3}, {1, 5000}}) {
    const auto mixed = Mix(weights, {.shuffle = true, .seed = 7, .repeat = false});
    const std::vector<int64_t> draws = Draws(*mixed, mixed->size());
    EXPECT_EQ(std::set<int64_t>(draws.begin(), draws.end()).size(), draws.size());
    const auto endless = Mix(weights, {.shuffle = true, .seed = 7, .repeat = true});
    const std::vector<int64_t> one_more = Draws(*endless, mixed->size() + 1);
    EXPECT_EQ(std::set<int64_t>(one_more.begin(), one_more.end()).size(), draws.size()) << "it ended too early";
  }
}

TEST(Mixed, PackerContinuesExactlyInTheMiddle) {
  const auto mixed = Mix({2, 1}, {.shuffle = true, .seed = 7, .repeat = true});
  const PackerOptions options = {.vocab_size = 2000, .shuffle = false, .seed = 0, .repeat = true};
  Packer packer(mixed.get(), options);
  std::vector<int64_t> tokens(16), labels(16), positions(16);
  const auto next = [&](Packer& of) {
    EXPECT_TRUE(of.NextRow(absl::MakeSpan(tokens), absl::MakeSpan(labels), absl::MakeSpan(positions)).ok());
    return tokens;
  };
  for (int i = 0; i < 300; ++i) next(packer);
  const StreamPosition saved = packer.position();
  const std::vector<int64_t> expected = next(packer);
  Packer other(mixed.get(), options);
  other.Seek(saved);
  EXPECT_EQ(next(other), expected);
}

TEST(Mixed, RefusesASourceWithoutPairs) {
  std::vector<WeightedSource> sources;
  sources.push_back({std::make_unique<Numbered>(0, 10), 1});
  sources.push_back({std::make_unique<Numbered>(1, 10, /*is_empty=*/true), 2});
  const absl::Status status = Mixed(std::move(sources), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("source 1 document 0"), std::string::npos) << status;
}

}  // namespace
}  // namespace titan
