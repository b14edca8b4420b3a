#include "titan/data/precompiled.h"

#include <gtest/gtest.h>

#include <fstream>
#include <vector>

#include "absl/strings/escaping.h"
#include "nlohmann/json.hpp"
#include "titan/base/crc32c.h"
#include "titan/base/file.h"
#include "titan/data/json.h"
#include "titan/data/utf8.h"

// Expected values from Hugging Face's `tokenizers` 0.23.3, with the table "nmt_nfkc" of sentencepiece, which T5 has.

namespace titan {
namespace {

constexpr char kFolder[] = "titan/data/testdata/t5_precompiled/";

std::shared_ptr<const Precompiled> NmtNfkc() {
  const auto json = ParseJson(*ReadFile(std::string(kFolder) + "tokenizer.json"));
  std::string charsmap;
  EXPECT_TRUE(absl::Base64Unescape((*json)["normalizer"]["normalizers"][0]["precompiled_charsmap"].get<std::string>(),
                                   &charsmap));
  const auto result = Precompiled::Parse(charsmap);
  EXPECT_TRUE(result.ok()) << result.status();
  return *result;
}

TEST(Precompiled, Clusters) {
  const auto table = NmtNfkc();
  EXPECT_EQ(table->Apply(""), "");
  EXPECT_EQ(table->Apply("a\tb\r\nc\x01"), "a b c");
  EXPECT_EQ(table->Apply("\uFB01n\u00BD \u2460"), "fin1\u20442 1");
  EXPECT_EQ(table->Apply("e\u0301"), "\u00E9");
  // The shortest key counts, and the rest of its cluster is lost.
  EXPECT_EQ(table->Apply("\u00BA\u0301x"), "ox");
  EXPECT_EQ(table->Apply("\u3000\u0301"), " ");
  EXPECT_EQ(table->Apply("A\u0302\u0300"), "\u00C2");
  // Six bytes: each character by itself.
  EXPECT_EQ(table->Apply("\u30AB\u3099"), "\u30AB\u3099");
  EXPECT_EQ(table->Apply("\uFF76\uFF9E"), "\u30AB\u3099");
  // A mark of Unicode 17; after a control character it stands alone.
  EXPECT_EQ(table->Apply("\u00BA\u1ACF"), "o");
  EXPECT_EQ(table->Apply("\u00BA\u1ACF\u0301"), "o\u1ACF\u0301");
  EXPECT_EQ(table->Apply("\n\u1ACF"), " \u1ACF");
  // A virama joins Indic letters.
  EXPECT_EQ(table->Apply("\u0915\u0958\u0301"), "\u0915\u0915\u093C");
  EXPECT_EQ(table->Apply("\u0915\u094D\u0958\u0301"), "\u0915\u094D\u0915\u093C\u0301");
  EXPECT_EQ(table->Apply(std::string("a\0b", 3)), std::string("a\0b", 3));
}

TEST(Precompiled, RandomTexts) {
  const auto table = NmtNfkc();
  std::ifstream file(std::string(kFolder) + "normalized.jsonl");
  int count = 0;
  for (std::string line; std::getline(file, line); ++count) {
    const nlohmann::json text = nlohmann::json::parse(line);  // [before, after]
    EXPECT_EQ(table->Apply(text[0].get<std::string>()), text[1].get<std::string>()) << text[0];
  }
  EXPECT_EQ(count, 400);
}

// Of EveryCharacter below.
constexpr uint32_t kAlone = 0xceca03f6;
constexpr uint32_t kBehind = 0x43602975;
constexpr uint32_t kBehindControl = 0xa14fa8c4;
constexpr uint32_t kBefore = 0x467fbfc9;
constexpr uint32_t kBeforeAccent = 0xca4739a1;

// Every character by itself, behind another one and before another one.
TEST(Precompiled, EveryCharacter) {
  struct Golden {
    const char* before;
    const char* after;
    uint32_t crc32c;  // of all results, each with a line end
  };
  const auto table = NmtNfkc();
  for (const Golden& golden : {Golden{"", "", kAlone}, Golden{"\u00BA", "", kBehind}, Golden{"\n", "", kBehindControl},
                               Golden{"", "\u00BA", kBefore}, Golden{"", "\u0301", kBeforeAccent}}) {
    uint32_t crc = 0;
    for (char32_t c = 1; c < 0x110000; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      std::string text = golden.before;
      AppendUtf8(c, &text);
      crc = ExtendCrc32c(crc, table->Apply(text + golden.after) + "\n");
    }
    EXPECT_EQ(crc, golden.crc32c) << golden.before << "?" << golden.after;
  }
}

TEST(Precompiled, LongRunsOfMarksTakeNoLongerThanOthers) {
  const auto table = NmtNfkc();
  std::string marks, flags;
  for (int i = 0; i < 300000; ++i) {
    marks += "\u1ACF";
    flags += "\U0001F1E9";
  }
  EXPECT_EQ(table->Apply(marks), marks);
  EXPECT_EQ(table->Apply(flags), flags);
}

// A table by hand, in the format of precompiled.h.
class TableBuilder {
 public:
  TableBuilder() : units_(1024) { units_[0] = 0x100 << 10; }  // the root's children are at 0x100 ^ byte

  // The key of one byte has `value`.
  TableBuilder& Add(unsigned char byte, uint32_t value) {
    const uint32_t child = 0x100 ^ byte;
    const uint32_t leaf = 0x200 + byte;
    units_[child] = byte | 1 << 8 | (child ^ leaf) << 10;
    units_[leaf] = 1u << 31 | value;
    return *this;
  }
  TableBuilder& Set(size_t i, uint32_t unit) {
    units_[i] = unit;
    return *this;
  }

  std::string Build(const std::string& replacements) const {
    std::string bytes;
    const auto append = [&](uint32_t value) {
      for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<char>(value >> 8 * i));
    };
    append(4 * units_.size());
    for (const uint32_t unit : units_) append(unit);
    return bytes + replacements;
  }

 private:
  std::vector<uint32_t> units_;
};

TEST(Precompiled, SmallTables) {
  const std::string replacements("xyz\0\0\xC3\xA9", 7);
  const auto table =
      Precompiled::Parse(TableBuilder().Add('a', 0).Add('b', 4).Add('c', 5).Add('d', 7).Build(replacements));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ((*table)->Apply("abcde"), "xyz\u00E9e");
  EXPECT_EQ((*table)->growth(), 3);
  EXPECT_TRUE(Precompiled::Parse(TableBuilder().Build("")).ok());
}

TEST(Precompiled, LyingTablesAreErrors) {
  const std::string good = TableBuilder().Add('a', 0).Build("x");
  ASSERT_TRUE(Precompiled::Parse(good).ok());
  struct Case {
    const char* reason;
    std::string charsmap;
  };
  const Case cases[] = {
      {"is empty", ""},
      {"is empty", good.substr(0, 3)},
      {"has no tree", std::string(4, '\0')},
      {"has no tree", std::string("\x03\0\0\0abc", 7)},
      {"is cut off", good.substr(0, 100)},
      {"is cut off", std::string(4, '\xFF') + good.substr(4)},
      {"not UTF-8", TableBuilder().Add('a', 0).Build("\xFF")},
      {"outside of its replacements", TableBuilder().Add('a', 3).Build("xy")},
      {"outside of its replacements", TableBuilder().Add('a', 1).Build("\u00E9")},
      {"outside of its tree", TableBuilder().Set(0x161, 'a' | 1 << 8 | 0x1FFFFFu << 10).Build("x")},
      // Every node is a child of every other.
      {"is no tree",
       [] {
         TableBuilder loop;
         for (uint32_t byte = 1; byte < 256; ++byte) loop.Set(0x100 ^ byte, byte | byte << 10);
         return loop.Build("");
       }()},
  };
  for (const Case& test : cases) {
    const auto table = Precompiled::Parse(test.charsmap);
    EXPECT_FALSE(table.ok()) << test.reason;
    EXPECT_NE(table.status().message().find(test.reason), std::string::npos) << test.reason << table.status();
  }
}

}  // namespace
}  // namespace titan
