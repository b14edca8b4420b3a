#include <gtest/gtest.h>

#include "nlohmann/json.hpp"
#include "titan/data/tokenizer.h"

// Small tokenizers, one for each thing that the published ones beside do not show. Expected values from Hugging Face's
// `tokenizers` 0.23.3.

namespace titan {
namespace {

const nlohmann::json kBytesAndFuse = {{"type", "Sequence"},
                                      {"decoders", {{{"type", "ByteFallback"}}, {{"type", "Fuse"}}}}};

nlohmann::json SmallBpe() {
  return {{"decoder", kBytesAndFuse},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"vocab",
             {{"<unk>", 0},
              {"a", 1},
              {"b", 2},
              {"ab", 3},
              {"<0x78>", 4},
              {"\u2581", 5},
              {"\u2581a", 6},
              {"b</w>", 7},
              {"ab</w>", 8}}},
            {"merges", {"a b", "\u2581 a", "a b</w>"}}}}};
}

nlohmann::json SmallUnigram() {
  nlohmann::json vocab = nlohmann::json::parse(
      R"([["<unk>", 0.0], ["_", -2.0], ["a", -1.0], ["b", -1.5], ["ab", -2.25], ["<0x78>", -9.0], ["zz", -50.0],
          ["q", -3.5]])");
  return {{"decoder", kBytesAndFuse}, {"model", {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", vocab}}}};
}

struct Expected {
  const char* text;
  std::vector<int64_t> ids;
  const char* decoded;
};

void Expect(const nlohmann::json& json, const std::vector<Expected>& cases) {
  const auto tokenizer = Tokenizer::Parse(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const Expected& expected : cases) {
    const auto ids = (*tokenizer)->Encode(expected.text, /*add_special_tokens=*/true);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, expected.ids) << expected.text;
    EXPECT_EQ((*tokenizer)->Decode(*ids, /*skip_special_tokens=*/false), expected.decoded) << expected.text;
  }
}

TEST(TokenizerStages, BpeGivesOneUnknownPerCharacter) {
  Expect(SmallBpe(), {{"abqqab", {3, 0, 0, 3}, "ab<unk><unk>ab"}, {"qxqb", {0, 0, 0, 2}, "<unk><unk><unk>b"}});
}

TEST(TokenizerStages, BpeFusesUnknowns) {
  nlohmann::json json = SmallBpe();
  json["model"]["fuse_unk"] = true;
  Expect(json, {{"abqqab", {3, 0, 3}, "ab<unk>ab"}, {"qxqb", {0, 2}, "<unk>b"}, {"xx", {0}, "<unk>"}});
}

// With some of the bytes only, an unknown character waits until after the bytes that follow it.
TEST(TokenizerStages, BpeFallsBackToTheBytesThatItHas) {
  nlohmann::json json = SmallBpe();
  json["model"]["fuse_unk"] = true;
  json["model"]["byte_fallback"] = true;
  Expect(json, {{"abqqab", {3, 0, 3}, "ab<unk>ab"}, {"qxqb", {4, 0, 2}, "x<unk>b"}, {"xx", {4, 4}, "xx"}});
}

TEST(TokenizerStages, BpeMarksTheEndOfAWordOfCharacters) {
  nlohmann::json json = SmallBpe();
  json["model"]["fuse_unk"] = true;
  json["model"]["end_of_word_suffix"] = "</w>";
  json["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
  Expect(json, {{"ab abab b q aq", {8, 3, 8, 7, 0, 1, 0}, "ab</w>abab</w>b</w><unk>a<unk>"}});
}

// Texts are cut at newlines only if these are tokens by themselves.
TEST(TokenizerStages, BpeMergesNewlinesOrNot) {
  nlohmann::json json = SmallBpe();
  json["model"]["vocab"].update({{"\n", 9}, {"a\n", 10}, {"\nb", 11}, {"\n\n", 12}});
  Expect(json, {{"a\nb\n\n\u2581a\n", {1, 9, 2, 9, 9, 6, 9}, "a\nb\n\n\u2581a\n"},
                {"q\n\nqx\nx", {0, 9, 9, 0, 0, 9, 0}, "<unk>\n\n<unk><unk>\n<unk>"}});
  json["model"]["fuse_unk"] = true;
  Expect(json, {{"q\n\nqx\nx", {0, 9, 9, 0, 9, 0}, "<unk>\n\n<unk>\n<unk>"}});
  json["model"]["byte_fallback"] = true;
  Expect(json, {{"q\n\nqx\nx", {0, 9, 9, 4, 0, 9, 4}, "<unk>\n\nx<unk>\nx"}});
  json["model"]["merges"] = {"a b", "\u2581 a", "\n \n"};
  Expect(json, {{"a\nb\n\n\u2581a\n", {1, 9, 2, 12, 6, 9}, "a\nb\n\n\u2581a\n"}});
  json["model"]["merges"] = {"a b", "\u2581 a", "a \n", "\n b"};
  Expect(json, {{"\n\na\n", {9, 9, 10}, "\n\na\n"}, {"a\nb\nb", {10, 2, 11}, "a\nb\nb"}});
}

// A newline that is unknown fuses with its neighbours; one that falls back to its byte goes before them.
TEST(TokenizerStages, BpeDoesNotCutAtUnknownNewlines) {
  nlohmann::json json = SmallBpe();
  json["model"]["fuse_unk"] = true;
  json["model"]["byte_fallback"] = true;
  Expect(json, {{"a\nb\n\na", {1, 0, 2, 0, 1}, "a<unk>b<unk>a"}, {"q\nq\n\nqx\nx", {4, 4, 0}, "xx<unk>"}});
  json["model"]["vocab"]["<0x0A>"] = 9;
  Expect(json,
         {{"a\nb\n\na", {1, 9, 2, 9, 9, 1}, "a\nb\n\na"}, {"q\nq\n\nqx\nx", {9, 9, 9, 4, 9, 4, 0}, "\n\n\nx\nx<unk>"}});
}

TEST(TokenizerStages, ReplacesBytesStringsAndRuns) {
  struct Case {
    nlohmann::json pattern;
    const char* content;
    std::vector<int64_t> ids;
  };
  const std::string text = "cacbccaccccb";
  nlohmann::json json = SmallBpe();
  for (const Case& expected :
       std::vector<Case>{{{{"String", "c"}}, "ab", {3, 1, 3, 2, 3, 3, 1, 3, 3, 3, 3, 2}},
                         {{{"String", "c"}}, "", {3, 3}},
                         {{{"String", "c"}}, "\u2581a\u2581a\u2581a", {6, 6, 6, 1, 6, 6, 5, 3, 6, 6, 6, 6, 6, 6,
                                                                       1, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 5, 3}},
                         {{{"String", "cc"}}, "b", {0, 1, 0, 2, 2, 3, 2, 2}},
                         {{{"Regex", "c{2,}"}}, "b", {0, 1, 0, 2, 2, 3, 2}},
                         {{{"Regex", "c+"}}, "b", {2, 3, 2, 2, 3, 2}},
                         {{{"Regex", "c{1,}"}}, "\u2581", {6, 5, 2, 6, 5, 2}},
                         {{{"Regex", "c{2,3}"}}, "b", {0, 1, 0, 2, 2, 3, 0, 2}}}) {
    json["normalizer"] = {{"type", "Replace"}, {"pattern", expected.pattern}, {"content", expected.content}};
    const auto tokenizer = Tokenizer::Parse(json.dump());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->Encode(text, false).value(), expected.ids) << expected.pattern << expected.content;
  }
}

TEST(TokenizerStages, MetaspacePrependsAlwaysFirstOrNever) {
  nlohmann::json json = SmallBpe();
  json["added_tokens"] = {{{"id", 9}, {"content", "<s>"}, {"special", true}}};
  for (const bool split : {true, false}) {
    for (const char* scheme : {"always", "first", "never"}) {
      json["decoder"] = {
          {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", scheme}, {"split", split}};
      json["pre_tokenizer"] = json["decoder"];
      if (scheme == std::string("always")) {
        Expect(json, {{"a ab<s>ab a", {6, 5, 3, 9, 5, 3, 6}, "a ab<s> ab a"},
                      {" a  a ", {6, 5, 6, 5}, "a  a "},
                      {"<s>ab", {9, 5, 3}, "<s> ab"},
                      {"\u2581ab", {5, 3}, "ab"}});
      } else if (scheme == std::string("first")) {
        Expect(json, {{"a ab<s>ab a", {6, 5, 3, 9, 3, 6}, "a ab<s>ab a"},
                      {" a  a ", {6, 5, 6, 5}, "a  a "},
                      {"<s>ab", {9, 3}, "<s>ab"},
                      {"\u2581ab", {5, 3}, "ab"}});
      } else {
        Expect(json, {{"a ab<s>ab a", {1, 5, 3, 9, 3, 6}, "a ab<s>ab a"},
                      {" a  a ", {6, 5, 6, 5}, " a  a "},
                      {"<s>ab", {9, 3}, "<s>ab"},
                      {"\u2581ab", {5, 3}, " ab"}});
      }
    }
  }
}

TEST(TokenizerStages, UnigramFusesUnknowns) {
  Expect(SmallUnigram(), {{"aab", {2, 4}, "aab"},
                          {"axxb", {2, 0, 3}, "a<unk>b"},
                          {"xyx", {0}, "<unk>"},
                          {"zzq", {6, 7}, "zzq"},
                          {"zyz", {0}, "<unk>"},
                          {"xzzx", {0, 6, 0}, "<unk>zz<unk>"}});
}

TEST(TokenizerStages, UnigramFallsBackToBytesIfItHasThemAll) {
  nlohmann::json json = SmallUnigram();
  json["model"]["byte_fallback"] = true;
  Expect(json, {{"axxb", {2, 5, 5, 3}, "axxb"}, {"xyx", {0}, "<unk>"}, {"xzzx", {5, 6, 5}, "xzzx"}});
}

TEST(TokenizerStages, FindsNormalizedAddedTokensInNormalizedText) {
  nlohmann::json json = SmallBpe();
  json["normalizer"] = {{"type", "Lowercase"}};
  json["added_tokens"] = {{{"id", 9}, {"content", "Tok X"}, {"normalized", true}}};
  const auto tokenizer = Tokenizer::Parse(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("abtok xab", false).value(), (std::vector<int64_t>{3, 9, 3}));
  EXPECT_EQ((*tokenizer)->Encode("abTOK Xab", false).value(), (std::vector<int64_t>{3, 9, 3}));
}

// In time: not again and again through all the white space before.
TEST(TokenizerStages, AddedTokensOfWhiteSpace) {
  constexpr size_t kSpaces = 1 << 20;
  nlohmann::json json = SmallBpe();
  json["added_tokens"] = {{{"id", 9}, {"content", " "}, {"lstrip", true}}};
  const auto tokenizer = Tokenizer::Parse(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = (*tokenizer)->Encode(std::string(kSpaces, ' '), false);
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(ids->size(), kSpaces);
  EXPECT_EQ((*tokenizer)->Encode("a\t \t a", false).value(), (std::vector<int64_t>{1, 9, 9, 1}));
}

TEST(TokenizerStages, AddedTokensThatBeginAlike) {
  nlohmann::json json = SmallBpe();
  json["added_tokens"] = {{{"id", 9}, {"content", "<a>"}}, {{"id", 10}, {"content", "<a><b>"}}};
  const auto tokenizer = Tokenizer::Parse(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("<a><b><a><bab", false).value(), (std::vector<int64_t>{10, 9, 0, 2, 3}));
}

}  // namespace
}  // namespace titan
