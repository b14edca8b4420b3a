#include "tools/bundle/data_files.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A bundle with files of 3 bytes, and the data.json `json`.
std::string WriteBundle(const std::string& json) {
  const std::string bundle = absl::StrCat(::testing::TempDir(), "/bundle");
  EXPECT_TRUE(MakeDirectories(bundle + "/data/docs").ok());
  for (const char* file : {"tokenizer.json", "docs/a", "docs/b"}) {
    EXPECT_TRUE(WriteFileAtomically(absl::StrCat(bundle, "/data/", file), "abc").ok());
  }
  EXPECT_TRUE(WriteFileAtomically(bundle + "/data.json", json).ok());
  return bundle;
}

std::string ErrorOf(const std::string& json) {
  return std::string(ReadDataFiles(WriteBundle(json)).status().message());
}

TEST(ReadDataFiles, LocatesEveryFile) {
  const std::string bundle = WriteBundle(R"({
    "tokenizer": {"path": "data/tokenizer.json", "bytes": 3, "sha256": ""},
    "corpora": {"docs": [{"path": "data/docs/b", "bytes": 3}, {"path": "data/docs/a", "bytes": 3}]}})");
  const DataFiles files = ReadDataFiles(bundle).value();
  EXPECT_EQ(files.tokenizer, bundle + "/data/tokenizer.json");
  ASSERT_EQ(files.corpora.size(), 1u);
  EXPECT_THAT(files.corpora.at("docs"), ElementsAre(bundle + "/data/docs/b", bundle + "/data/docs/a"));
}

TEST(ReadDataFiles, NeedsNoTokenizer) {
  EXPECT_EQ(ReadDataFiles(WriteBundle(R"({"tokenizer": null, "corpora": {}})")).value().tokenizer, "");
}

TEST(ReadDataFiles, SaysWhatIsWrong) {
  EXPECT_THAT(ErrorOf("{"), HasSubstr("data.json"));
  EXPECT_THAT(ErrorOf(R"({"tokenizer": null, "corpora": {"docs": 1}})"), HasSubstr("corpora.docs"));
  EXPECT_THAT(ErrorOf(R"({"tokenizer": null, "corpora": {"docs": [{"path": "data/docs/a", "bytes": 4}]}})"),
              HasSubstr("3 bytes, but data.json lists 4"));
  EXPECT_THAT(ErrorOf(R"({"tokenizer": {"path": "data/none", "bytes": 4}, "corpora": {}})"), HasSubstr("data/none"));
}

}  // namespace
}  // namespace titan
