#include "titan/checkpoint/index.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

// A (2, 4) tensor in two halves, as two ranks would write it.
CheckpointIndex TwoShards() {
  CheckpointIndex index;
  index.step = 12;
  index.shards["shard-00000.safetensors"] = {100, 0x1234abcd};
  index.shards["shard-00001.safetensors"] = {200, 7};
  index.tensors["model.w"] = {
      StoredDtype::kF32,
      {2, 4},
      {{"shard-00000.safetensors", {0, 0}, {2, 3}, 1}, {"shard-00001.safetensors", {0, 3}, {2, 1}, 2}}};
  index.tensors["scalar"] = {StoredDtype::kI64, {}, {{"shard-00001.safetensors", {}, {}, 0xffffffff}}};
  return index;
}

TEST(CheckpointIndex, RoundTrip) {
  const std::string text = FormatIndex(TwoShards());
  const auto index = ParseIndex(text);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(FormatIndex(*index), text);
  EXPECT_EQ(index->step, 12);
  EXPECT_EQ(index->shards.at("shard-00000.safetensors").header_crc32c, 0x1234abcdu);
  EXPECT_EQ(index->tensors.at("model.w").pieces[1].offsets, (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(index->tensors.at("scalar").pieces[0].crc32c, 0xffffffffu);
  EXPECT_TRUE(ParseIndex(FormatIndex(CheckpointIndex())).ok());
}

TEST(CheckpointIndex, PiecesMustCoverTheTensorOnce) {
  const std::string text = FormatIndex(TwoShards());
  struct Case {
    const char* from;
    const char* to;
    const char* reason;
  };
  const Case cases[] = {
      {"\"shape\":[2,1]", "\"shape\":[2,2]", "outside"},
      {"\"offsets\":[0,3]", "\"offsets\":[0,2]", "overlaps"},
      {"\"shape\":[2,1]", "\"shape\":[1,1]", "bytes"},
      {"\"shape\":[2,4]", "\"shape\":[2,5]", "bytes"},
      {"\"shape\":[2,4]", "\"shape\":[4611686018427387904,4]", "too large"},
      {"\"offsets\":[0,3]", "\"offsets\":[0,9223372036854775807]", "outside"},
      {"\"offsets\":[0,3]", "\"offsets\":[3]", "dimensions"},
      {"\"offsets\":[0,3]", "\"offsets\":[0,-3]", "integers"},
      {"\"file\":\"shard-00001.safetensors\",\"offsets\":[0,3]", "\"file\":\"other\",\"offsets\":[0,3]",
       "unknown file"},
      {"\"file\":\"shard-00001.safetensors\",\"offsets\":[0,3]",
       "\"file\":\"shard-00000.safetensors\",\"offsets\":[0,3]", "second piece"},
      {"\"F32\"", "\"F33\"", "unknown dtype"},
      {"\"crc32c\":\"00000001\"", "\"crc32c\":\"1\"", "hexadecimal"},
      {"\"crc32c\":\"00000001\"", "\"crc32c\":\"0000000G\"", "hexadecimal"},
      {"\"shard-00000.safetensors\": {", "\"../shard\": {", "not a file name"},
      {"\"step\": 12", "\"step\": -12", "not an integer"},
      {"\"step\": 12", "\"stop\": 12", "missing"},
      {"\"version\": 2", "\"version\": 3", "this titan reads"},
      {"\"version\": 2", "\"version\": 0", "this titan reads"},
      {"\"tensors\": {", "\"tensors\": [", "not JSON"},
      {"\"tensors\": {", "\"tensors\": [], \"others\": {", "index.tensors: not an object"},
      {"\"files\": {", "\"files\": [], \"others\": {", "index.files: not an object"},
      {"\"shape\":[2,4]", "\"shape\":[4611686018427387904,4,0]", "too large"},
  };
  for (const Case& test : cases) {
    const std::string broken = absl::StrReplaceAll(text, {{test.from, test.to}});
    ASSERT_NE(broken, text) << test.from;
    const auto index = ParseIndex(broken);
    EXPECT_FALSE(index.ok()) << test.to;
    EXPECT_NE(index.status().message().find(test.reason), std::string::npos) << test.to << "\n" << index.status();
  }
}

// A rank of a flat shard has a piece in three boxes of the same file.
CheckpointIndex ThreeBoxes() {
  CheckpointIndex index;
  index.step = 3;
  index.shards["a"] = {100, 1};
  index.tensors["w"] = {
      StoredDtype::kF32,
      {4, 3},
      {{"a", {0, 0}, {1, 3}, 1, ""}, {"a", {1, 0}, {2, 3}, 2, "w#1"}, {"a", {3, 0}, {1, 3}, 3, "w#2"}}};
  return index;
}

TEST(CheckpointIndex, SeveralPiecesInOneFileHaveKeys) {
  const std::string text = FormatIndex(ThreeBoxes());
  const auto index = ParseIndex(text);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(FormatIndex(*index), text);
  EXPECT_EQ(index->tensors.at("w").pieces[0].NameIn("w"), "w");
  EXPECT_EQ(index->tensors.at("w").pieces[2].NameIn("w"), "w#2");
  const auto same_key = ParseIndex(absl::StrReplaceAll(text, {{"w#2", "w#1"}}));
  EXPECT_NE(same_key.status().message().find("second piece of the same key"), std::string::npos) << same_key.status();
}

// The first version had one piece in a file, and no keys.
TEST(CheckpointIndex, ReadsVersion1) {
  const auto version1 = [](const CheckpointIndex& index) {
    return ParseIndex(absl::StrReplaceAll(FormatIndex(index), {{"\"version\": 2", "\"version\": 1"}}));
  };
  const auto index = version1(TwoShards());
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(FormatIndex(*index), FormatIndex(TwoShards()));
  EXPECT_FALSE(version1(ThreeBoxes()).ok());
}

TEST(CheckpointIndex, ManyPiecesAreCheckedInTime) {
  CheckpointIndex index;
  index.shards["a"] = {100, 1};
  CheckpointIndex::Tensor& tensor = index.tensors["w"];
  tensor.shape = {20000, 2};
  for (int64_t row = 0; row < 20000; ++row) tensor.pieces.push_back({"a", {row, 0}, {1, 2}, 0, absl::StrCat(row)});
  EXPECT_TRUE(CheckComplete(index).ok());
  tensor.pieces[777].offsets = {778, 0};
  EXPECT_NE(CheckComplete(index).message().find("overlaps"), std::string::npos);
}

TEST(CheckpointIndex, ManyColumnsAndEmptyPiecesAreCheckedInTime) {
  constexpr int64_t kPieces = 20000;
  CheckpointIndex index;
  index.shards["a"] = {100, 1};
  CheckpointIndex::Tensor& tensor = index.tensors["w"];
  tensor.shape = {2, kPieces};
  for (int64_t column = 0; column < kPieces; ++column) {
    tensor.pieces.push_back({"a", {0, column}, {2, 1}, 0, absl::StrCat(column)});
    tensor.pieces.push_back({"a", {1, 7}, {0, 1}, 0, absl::StrCat("empty", column)});
  }
  EXPECT_TRUE(CheckComplete(index).ok());
  tensor.pieces[1554].offsets = {0, 778};
  EXPECT_NE(CheckComplete(index).message().find("pieces[1556]: overlaps pieces[1554]"), std::string::npos)
      << CheckComplete(index);
}

TEST(CheckpointPart, RoundTripMergeAndDamage) {
  CheckpointIndex left = TwoShards(), right = TwoShards();
  left.shards.erase("shard-00001.safetensors");
  left.tensors.erase("scalar");
  left.tensors["model.w"].pieces.pop_back();
  right.shards.erase("shard-00000.safetensors");
  right.tensors["model.w"].pieces.erase(right.tensors["model.w"].pieces.begin());
  const std::string text = FormatPart({.save_id = "0123", .rank = 7, .index = left});
  const auto part = ParsePart(text);
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ(part->save_id, "0123");
  EXPECT_EQ(part->rank, 7);
  CheckpointIndex whole;
  whole.step = 12;
  ASSERT_TRUE(Merge(part->index, whole).ok());
  EXPECT_FALSE(CheckComplete(whole).ok());  // half of model.w is missing
  ASSERT_TRUE(Merge(right, whole).ok());
  EXPECT_TRUE(CheckComplete(whole).ok());
  EXPECT_EQ(FormatIndex(whole), FormatIndex(TwoShards()));
  EXPECT_NE(Merge(right, whole).message().find("two writers"), std::string::npos);
  CheckpointIndex other;
  other.tensors["model.w"] = {StoredDtype::kF32, {4, 2}, {}};
  EXPECT_NE(Merge(other, whole).message().find("disagree about the dtype or shape of model.w"), std::string::npos);
  for (size_t i = 0; i < text.size(); ++i) {
    std::string broken = text;
    broken[i] = static_cast<char>(broken[i] ^ 1);
    EXPECT_FALSE(ParsePart(broken).ok()) << i;
    EXPECT_FALSE(ParsePart(text.substr(0, i)).ok()) << i;
  }
}

TEST(CheckpointIndex, MutationsNeverCrash) {
  const std::string text = FormatIndex(TwoShards());
  std::mt19937 random(1);
  const std::string pieces[] = {"9223372036854775807", "-1", "null", "[", "]", "\"\"", "0", ",", "{}", "true", "1e99"};
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string broken = text;
    broken.replace(random() % broken.size(), random() % 12, pieces[random() % std::size(pieces)]);
    if (!ParseIndex(broken).ok()) ++refused;
  }
  EXPECT_GT(refused, 2000);
}

TEST(Committed, RoundTripAndEveryFlippedBit) {
  const CommittedFiles files = {{"index.json", {123, 0xdeadbeef}}, {"state.json", {0, 0}}};
  const std::string text = FormatCommitted(files);
  const auto read = ParseCommitted(text);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->at("index.json").bytes, 123);
  EXPECT_EQ(read->at("index.json").crc32c, 0xdeadbeefu);
  for (size_t i = 0; i < text.size() * 8; ++i) {
    std::string broken = text;
    broken[i / 8] = static_cast<char>(broken[i / 8] ^ (1 << i % 8));
    EXPECT_TRUE(absl::IsDataLoss(ParseCommitted(broken).status())) << i;
  }
  for (size_t length = 0; length < text.size(); ++length) EXPECT_FALSE(ParseCommitted(text.substr(0, length)).ok());
  EXPECT_FALSE(ParseCommitted(text + "\n").ok());
  EXPECT_FALSE(ParseCommitted(text + text).ok());
}

}  // namespace
}  // namespace titan
