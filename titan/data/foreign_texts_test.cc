#include "titan/data/foreign_texts.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/data/text_source.h"

namespace titan {
namespace {

using ::testing::HasSubstr;

// Written by make.py, which lies there.
std::string PathOf(const std::string& name) { return "titan/data/testdata/foreign/" + name; }

absl::StatusOr<std::vector<std::string>> Read(const std::string& path, const ForeignTextOptions& options = {}) {
  std::vector<std::string> texts;
  const absl::Status status = ReadForeignTexts(path, options, [&](std::string_view text) {
    texts.emplace_back(text);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return texts;
}

std::string ErrorOf(const std::string& name, const ForeignTextOptions& options = {}) {
  return std::string(Read(PathOf(name), options).status().message());
}

std::vector<std::string> Expected() {
  return {"Models learn words.",
          "",
          "Two\nlines and a \"quote\"\t\\.",
          "Grüße, 世界, \U0001f642",
          std::string(3000, 'z'),
          " ",
          "7",
          "null",
          std::string("a\0b", 3),
          "e\u0301 is not \u00e9",
          "\u2028",
          "The last one."};
}

class EveryFormat : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryFormat, HoldsTheSameTexts) {
  const auto texts = Read(PathOf(GetParam()));
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_EQ(*texts, Expected());
}

INSTANTIATE_TEST_SUITE_P(ForeignTexts, EveryFormat,
                         ::testing::Values("texts.jsonl", "two_members.json.gz", "two_frames.jsonl.zst", "none.parquet",
                                           "snappy.parquet", "gzip.parquet", "zstd.parquet", "brotli.parquet",
                                           "lz4.parquet", "large.parquet", "dictionary.parquet", "file.arrow",
                                           "dictionary.arrow", "view.arrow", "stream.arrow", "zstd.arrow"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '.' ? '_' : c;
                           return name;
                         });

TEST(ForeignTexts, ATextIsOneDocument) {
  for (const char* name : {"one.txt.gz", "one.txt.zst"}) {
    EXPECT_EQ(Read(PathOf(name)).value(), std::vector<std::string>{Expected()[3]}) << name;
  }
  EXPECT_EQ(Read(PathOf("texts.jsonl"), {.format = "text"}).value()[0], ReadFile(PathOf("texts.jsonl")).value());
}

TEST(ForeignTexts, LinesMayBeLongerThanWhatIsReadAtOnce) {
  const std::string path = testing::TempDir() + "/long.jsonl", text(3 << 20, 'x');
  ASSERT_TRUE(WriteFileAtomically(path, absl::StrCat("{\"text\": \"", text, "\"}\n\n{\"text\": \"end\"}")).ok());
  EXPECT_EQ(Read(path).value(), (std::vector<std::string>{text, "end"}));
}

TEST(ForeignTexts, NoRowsAreNoTexts) { EXPECT_EQ(Read(PathOf("no_rows.parquet")).value().size(), 0u); }

TEST(ForeignTexts, ErrorsSayWhatAndWhere) {
  for (const char* name : {"truncated.jsonl.gz", "truncated.jsonl.zst"}) {
    EXPECT_THAT(ErrorOf(name), HasSubstr(absl::StrCat(name, ": Truncated compressed stream"))) << name;
  }
  EXPECT_THAT(ErrorOf("empty.jsonl.gz"), HasSubstr("empty.jsonl.gz: the file is empty"));
  EXPECT_THAT(ErrorOf("missing.jsonl"), HasSubstr("No such file"));
  EXPECT_THAT(ErrorOf("null.parquet"), HasSubstr("null.parquet: row 1: no text, but null"));
  EXPECT_THAT(ErrorOf("numbers.parquet"), HasSubstr("column \"text\" (text_field) holds int64"));
  for (const char* name : {"snappy.parquet", "file.arrow", "stream.arrow"}) {
    EXPECT_THAT(ErrorOf(name, {.text_field = "body"}),
                HasSubstr("no column \"body\" (text_field); there are: id, meta, text"))
        << name;
    EXPECT_THAT(ErrorOf(name, {.text_field = "meta"}), HasSubstr("which are no strings")) << name;
  }
  EXPECT_THAT(ErrorOf("texts.jsonl", {.text_field = "id"}), HasSubstr("texts.jsonl: line 1: no string \"id\""));
  EXPECT_THAT(ErrorOf("make.py"), HasSubstr("make.py: its name does not tell its format"));
  EXPECT_THAT(ErrorOf("texts.jsonl", {.format = "csv"}), HasSubstr("\"csv\" is none of auto, jsonl"));
  EXPECT_THAT(ErrorOf("texts.jsonl", {.format = "parquet"}), HasSubstr("magic bytes not found"));
  EXPECT_FALSE(Read(PathOf("texts.jsonl"), {.format = "arrow"}).ok());
  const std::string named_so = testing::TempDir() + "/named_so.jsonl.gz";
  ASSERT_TRUE(WriteFileAtomically(named_so, "{\"text\": \"\"}\n").ok());
  EXPECT_THAT(std::string(Read(named_so).status().message()), HasSubstr("not a gzip file, as its name says"));
}

TEST(ForeignTexts, EndsAtTheReadersError) {
  int64_t seen = 0;
  const absl::Status status = ReadForeignTexts(PathOf("snappy.parquet"), {}, [&](std::string_view) {
    return ++seen == 7 ? absl::AbortedError("enough") : absl::OkStatus();
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("row 6: enough"));
  EXPECT_EQ(seen, 7);
}

// Every file is an error or gives texts with a byte of it changed, and with its end cut off.
TEST(ForeignTexts, SurvivesDamage) {
  uint64_t state = 1;
  for (const char* name : {"snappy.parquet", "dictionary.parquet", "large.parquet", "file.arrow", "stream.arrow",
                           "dictionary.arrow", "view.arrow", "two_members.json.gz", "two_frames.jsonl.zst"}) {
    const std::string whole = ReadFile(PathOf(name)).value(), path = absl::StrCat(testing::TempDir(), "/", name);
    int64_t errors = 0;
    for (int i = 0; i < 300; ++i) {
      std::string bytes = whole;
      state = state * 6364136223846793005u + 1442695040888963407u;
      const size_t at = (state >> 33) % bytes.size();
      if (i % 4 == 0) {
        bytes.resize(at);
      } else {
        bytes[at] = static_cast<char>(state >> 20);
      }
      ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
      errors += !Read(path).ok();
    }
    EXPECT_GE(errors, 75) << name;
  }
}

// Their place is in titan_text_corpus.
TEST(ForeignTexts, AreRefusedAsText) {
  for (const char* name : {"two_members.json.gz", "two_frames.jsonl.zst", "snappy.parquet", "file.arrow"}) {
    EXPECT_THAT(std::string(OpenJsonl({PathOf(name)}, "text").status().message()), HasSubstr("titan_text_corpus"));
    EXPECT_THAT(std::string(OpenTextFiles({PathOf(name)}).status().message()), HasSubstr("titan_text_corpus"));
  }
}

}  // namespace
}  // namespace titan
