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

constexpr char kAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kAbd[] = "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9";

// {"path": .., "bytes": .., "sha256": ..}
std::string Listed(const std::string& path, int64_t bytes = 3, const std::string& sha256 = kAbc) {
  return absl::StrCat("{\"path\": \"", path, "\", \"bytes\": ", bytes, ", \"sha256\": \"", sha256, "\"}");
}

// A data.json with a tokenizer, null or as Listed makes it, and one corpus with the listed files.
std::string DataJson(const std::string& tokenizer, const std::string& docs) {
  return absl::StrCat("{\"tokenizer\": ", tokenizer, ", \"corpora\": {\"docs\": [", docs, "]}}");
}

// A bundle with files that contain "abc", and the data.json `json`.
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
  const absl::Status status = ReadDataFiles(WriteBundle(json)).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

TEST(ReadDataFiles, LocatesEveryFile) {
  const std::string bundle = WriteBundle(
      DataJson(Listed("data/tokenizer.json"), absl::StrCat(Listed("data/docs/b"), ", ", Listed("data/docs/a"))));
  const absl::StatusOr<DataFiles> files = ReadDataFiles(bundle);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->tokenizer, bundle + "/data/tokenizer.json");
  ASSERT_EQ(files->corpora.size(), 1u);
  EXPECT_THAT(files->corpora.at("docs"), ElementsAre(bundle + "/data/docs/b", bundle + "/data/docs/a"));
}

TEST(ReadDataFiles, NeedsNoTokenizer) {
  EXPECT_EQ(ReadDataFiles(WriteBundle(R"({"tokenizer": null, "corpora": {}})")).value().tokenizer, "");
}

TEST(ReadDataFiles, SaysWhatIsWrong) {
  EXPECT_THAT(ErrorOf("{"), HasSubstr("data.json"));
  EXPECT_THAT(ErrorOf(R"({"tokenizer": null, "corpora": {"docs": 1}})"), HasSubstr("corpora.docs"));
  EXPECT_THAT(ErrorOf(DataJson("null", R"({"path": "data/docs/a", "bytes": 3})")),
              HasSubstr("expected path, bytes and sha256"));
}

TEST(ReadDataFiles, NamesEveryDamagedFile) {
  const std::string error = ErrorOf(
      DataJson(Listed("data/none"), absl::StrCat(Listed("data/docs/a", 4), ", ", Listed("data/docs/b", 3, kAbd))));
  EXPECT_THAT(error, HasSubstr("data/none: No such file"));
  EXPECT_THAT(error, HasSubstr("data/docs/a has 3 bytes, but data.json lists 4"));
  EXPECT_THAT(error,
              HasSubstr(absl::StrCat("data/docs/b is damaged: its sha256 is ", kAbc, ", but data.json lists ", kAbd)));
}

TEST(ReadDataFiles, ReadsOnlySmallDataAsAWhole) {
  const std::string docs = absl::StrCat(Listed("data/docs/a"), ", ", Listed("data/docs/b", 3, kAbd));
  const std::string bundle = WriteBundle(DataJson("null", docs));
  EXPECT_FALSE(ReadDataFiles(bundle, /*max_hashed_bytes=*/6).ok());
  EXPECT_TRUE(ReadDataFiles(bundle, /*max_hashed_bytes=*/5).ok());
}

}  // namespace
}  // namespace titan
