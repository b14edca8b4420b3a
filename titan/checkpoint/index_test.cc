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
      {"\"version\": 1", "\"version\": 2", "this titan reads"},
      {"\"tensors\": {", "\"tensors\": [", "not JSON"},
  };
  for (const Case& test : cases) {
    const std::string broken = absl::StrReplaceAll(text, {{test.from, test.to}});
    ASSERT_NE(broken, text) << test.from;
    const auto index = ParseIndex(broken);
    EXPECT_FALSE(index.ok()) << test.to;
    EXPECT_NE(index.status().message().find(test.reason), std::string::npos) << test.to << "\n" << index.status();
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
