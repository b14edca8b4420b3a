#include "titan/data/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <set>
#include <thread>

#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/data/json.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

// Expected values from Hugging Face's `tokenizers`.
std::string TestData(const std::string& path) { return "titan/data/testdata/" + path; }

std::vector<nlohmann::json> ReadLines(const std::string& path) {
  std::ifstream file(path);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

std::unique_ptr<Tokenizer> LoadLlama3() {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(TestData("llama3/tokenizer.json"));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

nlohmann::json Llama3Json() { return *ParseJson(*ReadFile(TestData("llama3/tokenizer.json"))); }

// The documents come back as they were: no normalizer, or one that changes nothing in them.
const std::set<std::string> kLossless = {"llama3", "o200k", "deepseek_v3", "deepseek_llm"};

class HuggingFace : public testing::TestWithParam<const char*> {
 protected:
  std::string File(const std::string& name) const { return TestData(GetParam() + std::string("/") + name); }
};

TEST_P(HuggingFace, Cases) {
  const auto tokenizer = Tokenizer::Load(File("tokenizer.json"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<nlohmann::json> cases = ReadLines(File("cases.jsonl"));
  ASSERT_EQ(cases.size(), 219u);
  for (const nlohmann::json& expected : cases) {
    const auto ids = expected["ids"].get<std::vector<int64_t>>();
    if (expected.count("text") != 0) {
      const auto encoded = (*tokenizer)->Encode(expected["text"].get<std::string>(), expected["add_special_tokens"]);
      ASSERT_TRUE(encoded.ok()) << encoded.status();
      EXPECT_EQ(*encoded, ids) << expected["text"];
    }
    EXPECT_EQ((*tokenizer)->Decode(ids, false), expected["decoded"].get<std::string>());
    EXPECT_EQ((*tokenizer)->Decode(ids, true), expected["decoded_skip_special"].get<std::string>());
  }
}

TEST_P(HuggingFace, Documents) {
  const auto tokenizer = Tokenizer::Load(File("tokenizer.json"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<nlohmann::json> documents = ReadLines(File("documents.jsonl"));
  ASSERT_EQ(documents.size(), 2u);
  for (const nlohmann::json& document : documents) {
    const std::string text = document["text"].get<std::string>();
    EXPECT_EQ((*tokenizer)->Encode(text, false).value(), document["ids"].get<std::vector<int64_t>>());
    if (kLossless.count(GetParam()) != 0) {
      EXPECT_EQ((*tokenizer)->Decode(document["ids"].get<std::vector<int64_t>>(), false), text);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, HuggingFace,
                         testing::Values("llama3", "qwen3", "o200k", "deepseek_v3", "deepseek_llm", "llama2_spm",
                                         "t5_unigram", "t5_precompiled", "clip"));

TEST(Tokenizer, KnowsWhereDocumentsBeginAndEnd) {
  const auto llama3 = LoadLlama3();
  EXPECT_EQ(llama3->bos_id(), 2805);
  EXPECT_EQ(llama3->eos_id(), 2806);
  EXPECT_EQ(llama3->vocab_size(), 2811);
  const auto deepseek = Tokenizer::Load(TestData("deepseek_v3/tokenizer.json"));
  EXPECT_EQ((*deepseek)->bos_id(), 2700);
  EXPECT_EQ((*deepseek)->eos_id(), 2701);
}

// What the fast ways through text that is mostly ASCII leave to others: marks, control characters, white space of all
// kinds, long words, added tokens inside of words. Ids from Hugging Face's `tokenizers` 0.23.3.
TEST(Tokenizer, RandomTextsAsHuggingFace) {
  for (const std::string fixture : {"llama2_spm", "t5_unigram", "t5_precompiled"}) {
    const auto tokenizer = Tokenizer::Load(TestData(fixture + "/tokenizer.json"));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const std::vector<nlohmann::json> cases = ReadLines(TestData(fixture + "/random.jsonl"));
    ASSERT_EQ(cases.size(), 300u);
    for (int pass = 0; pass < 2; ++pass) {
      for (const nlohmann::json& expected : cases) {
        const auto ids = (*tokenizer)->Encode(expected["text"].get<std::string>(), false);
        ASSERT_TRUE(ids.ok()) << ids.status();
        EXPECT_EQ(*ids, expected["ids"].get<std::vector<int64_t>>()) << fixture << ": " << expected["text"];
      }
    }
  }
}

// Hugging Face, tokenizers 0.23.3: of paths whose scores are equal but for rounding it takes the one that its JSON
// reader's rounding favours.
TEST(Tokenizer, RoundsScoresAsHuggingFace) {
  const auto tokenizer = Tokenizer::Load(TestData("t5_unigram/tokenizer.json"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode(std::string(30, '~'), false).value(),
            (std::vector<int64_t>{1398, 1478, 1478, 1478, 1379}));
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const auto ids = LoadLlama3()->Encode("abc\xFFz", false);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ids.status().message(), "not UTF-8 at byte 3");
}

TEST(Tokenizer, LeavesUnknownIdsOut) {
  const auto tokenizer = LoadLlama3();
  EXPECT_EQ(tokenizer->Decode({64, -1, 1 << 30, 64}, false), "aa");
}

// Merges by the definition: the pair of lowest rank, the leftmost first. Words long and short take different ways
// there.
std::vector<int64_t> MergeByDefinition(const nlohmann::json& model, const std::string& word) {
  std::map<std::pair<std::string, std::string>, int> ranks;
  for (const nlohmann::json& merge : model["merges"]) {
    const std::string text = merge.get<std::string>();
    ranks.emplace(std::pair(text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)), ranks.size());
  }
  std::vector<std::string> symbols;
  for (const char c : word) symbols.push_back(std::string(1, c));
  while (true) {
    int best_rank = static_cast<int>(ranks.size());
    size_t best = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ranks.find({symbols[i], symbols[i + 1]});
      if (found != ranks.end() && found->second < best_rank) {
        best_rank = found->second;
        best = i;
      }
    }
    if (best_rank == static_cast<int>(ranks.size())) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + best + 1);
  }
  std::vector<int64_t> ids;
  for (const std::string& symbol : symbols) ids.push_back(model["vocab"][symbol].get<int64_t>());
  return ids;
}

TEST(Tokenizer, MergesWordsOfEveryLengthByTheDefinition) {
  nlohmann::json json = Llama3Json();
  json["model"]["ignore_merges"] = false;
  const auto tokenizer = Tokenizer::Parse(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::mt19937 random(1);
  const std::string letters = "etaoinshrdlu";
  for (const int length : {1, 2, 3, 7, 20, 47, 48, 49, 63, 64, 65, 66, 200}) {
    for (int repetition = 0; repetition < 4; ++repetition) {
      std::string word;
      while (static_cast<int>(word.size()) < length) word += letters[random() % letters.size()];
      EXPECT_EQ((*tokenizer)->Encode(word, false).value(), MergeByDefinition(json["model"], word)) << word;
      EXPECT_EQ((*tokenizer)->Encode(word, false).value(), MergeByDefinition(json["model"], word)) << "again: " << word;
    }
  }
}

TEST(Tokenizer, ThreadsGetTheSameIds) {
  const auto tokenizer = LoadLlama3();
  const std::string text = ReadLines(TestData("llama3/documents.jsonl"))[0]["text"].get<std::string>();
  const std::vector<int64_t> expected = LoadLlama3()->Encode(text, true).value();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int repetition = 0; repetition < 5; ++repetition) EXPECT_EQ(*tokenizer->Encode(text, true), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Hugging Face, tokenizers 0.22: an added token with lstrip and rstrip takes all white space around it along.
TEST(Tokenizer, StripsAroundAddedTokens) {
  nlohmann::json json = Llama3Json();
  json["added_tokens"].push_back(
      {{"id", 2811}, {"content", "<mask>"}, {"lstrip", true}, {"rstrip", true}, {"special", true}});
  const auto tokenizer = Tokenizer::Parse(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(*(*tokenizer)->Encode("a \xC2\xA0<mask>\n <mask> a", false), (std::vector<int64_t>{64, 2811, 2811, 64}));
}

TEST(Tokenizer, TakesTheLongestAddedToken) {
  nlohmann::json json = Llama3Json();
  json["added_tokens"].push_back({{"id", 2811}, {"content", "<|end_of_text|><|"}, {"normalized", false}});
  const auto tokenizer = Tokenizer::Parse(json.dump());
  EXPECT_EQ(*(*tokenizer)->Encode("<|end_of_text|><|", false), (std::vector<int64_t>{2811}));
  EXPECT_EQ(*(*tokenizer)->Encode("<|end_of_text|><", false), (std::vector<int64_t>{2806, 27}));
}

// A fixture with one thing changed, and a part of the message that this must give.
void ExpectRefused(const std::string& fixture, const char* pointer, const nlohmann::json& value,
                   const std::string& part) {
  nlohmann::json json = *ParseJson(*ReadFile(TestData(fixture + "/tokenizer.json")));
  json[nlohmann::json::json_pointer(pointer)] = value;
  const auto tokenizer = Tokenizer::Parse(json.dump());
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << fixture << pointer;
  const std::string message(tokenizer.status().message());
  EXPECT_NE(message.find(part), std::string::npos) << fixture << pointer << ": " << message;
}

TEST(Tokenizer, NamesTheComponentThatIsNotSupported) {
  for (const char* type : {"BertNormalizer", "StripAccents", "Nmt", "ByteLevel", ""}) {
    const std::string part = std::string("not supported yet: the normalizer \"") + type + "\"";
    ExpectRefused("qwen3", "/normalizer/type", type, part);
    ExpectRefused("llama2_spm", "/normalizer/normalizers/1/type", type, part);
  }
  for (const char* type : {"BertPreTokenizer", "Whitespace", "Punctuation", "CharDelimiterSplit", "UnicodeScripts"}) {
    const std::string part = std::string("not supported yet: the pre_tokenizer \"") + type + "\"";
    ExpectRefused("t5_unigram", "/pre_tokenizer/pretokenizers/0/type", type, part);
  }
  for (const char* type : {"WordPiece", "WordLevel"}) {
    ExpectRefused("clip", "/model/type", type, std::string("the model \"") + type + "\"");
  }
  for (const char* type : {"WordPiece", "BPEDecoder", "CTC"}) {
    ExpectRefused("llama2_spm", "/decoder/decoders/2/type", type, std::string("the decoder \"") + type + "\"");
  }
  ExpectRefused("llama3", "/decoder", nullptr, "the decoder \"\"");
  ExpectRefused("clip", "/post_processor/type", "BertProcessing", "the post_processor \"BertProcessing\"");
  ExpectRefused("llama3", "/pre_tokenizer/pretokenizers/1/add_prefix_space", true, "add_prefix_space");
  ExpectRefused("llama3", "/pre_tokenizer/pretokenizers/0/behavior", "MergedWithNext", "MergedWithNext");
  ExpectRefused("llama3", "/truncation", {{"max_length", 4}}, "\"truncation\"");
  ExpectRefused("llama3", "/added_tokens/1/single_word", true, "added_tokens[1]: not supported yet: single_word");
}

TEST(Tokenizer, RefusesRegularExpressionsThatEnginesReadDifferently) {
  const char* pattern = "/pre_tokenizer/pretokenizers/0/pattern/Regex";
  ExpectRefused("llama3", pattern, "\\w+", "this escape at byte 0");
  ExpectRefused("llama3", pattern, "[a-z&&[aeiou]]", "the intersection of classes");
  ExpectRefused("llama3", pattern, "(a", "missing closing parenthesis");
  ExpectRefused("clip", "/normalizer/normalizers/1/pattern/Regex", "\\s*", "matches \"\"");
  ExpectRefused("llama2_spm", "/decoder/decoders/0/pattern", {{"Regex", "a"}}, "Replace with a regular expression");
}

TEST(Tokenizer, RefusesModelsThatItCannotFollow) {
  ExpectRefused("llama3", "/model/continuing_subword_prefix", "##", "continuing_subword_prefix");
  ExpectRefused("llama3", "/model/dropout", 0.1, "dropout");
  ExpectRefused("llama3", "/model/merges/3", "abc", "merge 3 must be");
  ExpectRefused("llama3", "/model/merges/3", {"q", "zzz"}, "is not in the vocabulary");
  ExpectRefused("llama3", "/model/vocab/a", -1, "the id of \"a\"");
  ExpectRefused("llama3", "/model/vocab", nlohmann::json::object(), "without the byte 0x00");
  ExpectRefused("llama3", "/model/end_of_word_suffix", "</w>", "without the byte 0x00");
  ExpectRefused("llama3", "/model/end_of_word_suffix", "\u2581", "end_of_word_suffix");
  ExpectRefused("llama3", "/pre_tokenizer", nullptr, "neither \"unk_token\" nor a byte fallback");
  ExpectRefused("llama2_spm", "/model/unk_token", "<what>", "lacks the unk_token \"<what>\"");
  ExpectRefused("t5_unigram", "/model/unk_id", nullptr, "Unigram without \"unk_id\"");
  ExpectRefused("t5_unigram", "/model/unk_id", 1500, "no token has the \"unk_id\" 1500");
  ExpectRefused("t5_unigram", "/model/vocab/4", "s", "entry 4 of \"vocab\"");
  ExpectRefused("t5_unigram", "/model/vocab", nlohmann::json::array(), "must be a list of at least one");
  ExpectRefused("t5_unigram", "/pre_tokenizer/pretokenizers/1", {{"type", "ByteLevel"}, {"add_prefix_space", false}},
                "the model \"Unigram\" with");
  ExpectRefused("llama3", "/added_tokens/1/id", 2805, "both have the id 2805");
}

TEST(Tokenizer, RefusesMalformedComponents) {
  const char* metaspace = "/pre_tokenizer/pretokenizers/1";
  ExpectRefused("t5_unigram", (metaspace + std::string("/replacement")).c_str(), "ab", "must be one character");
  ExpectRefused("t5_unigram", (metaspace + std::string("/prepend_scheme")).c_str(), "last", "\"last\"");
  ExpectRefused("t5_unigram", (metaspace + std::string("/prepend_scheme")).c_str(), "first", "after a normalizer");
  ExpectRefused("t5_unigram", (metaspace + std::string("/add_prefix_space")).c_str(), false, "contradicts");
  ExpectRefused("t5_unigram", "/pre_tokenizer/pretokenizers/0", {{"type", "Metaspace"}, {"replacement", "_"}},
                "a second Metaspace");
  ExpectRefused("llama2_spm", "/decoder/decoders/3/content", "", "must be one character");
  ExpectRefused("llama2_spm", "/decoder/decoders/3/start", -1, "\"start\"");
  ExpectRefused("llama2_spm", "/normalizer/normalizers/0/prepend", 1, "\"prepend\" must be a string");
  ExpectRefused("llama2_spm", "/normalizer/normalizers", 1, "must be a list");
  ExpectRefused("t5_precompiled", "/normalizer/normalizers/0/precompiled_charsmap", "?", "is not base64");
  ExpectRefused("t5_precompiled", "/normalizer/normalizers/0/precompiled_charsmap", nullptr, "must be a string");
  ExpectRefused("t5_precompiled", "/normalizer/normalizers/0/precompiled_charsmap", "AAAAAA==", "has no tree");
  ExpectRefused("t5_precompiled", "/normalizer/normalizers/1/strip_left", 1, "\"strip_left\" must be");
  ExpectRefused("clip", "/post_processor/cls", "x", "\"cls\" must be");
  ExpectRefused("clip", "/post_processor/sep/1", 99999, "no token has id 99999");
  ExpectRefused("clip", "/post_processor/sep/1", std::numeric_limits<uint64_t>::max(), "\"sep\" must be");
  ExpectRefused("llama2_spm", "/post_processor/special_tokens/<s>/ids/0", std::numeric_limits<uint64_t>::max(),
                "ids of <s>");
}

// A small file that would fill the memory, or take the square of a text's length.
TEST(Tokenizer, RefusesFilesThatAskForTooMuch) {
  ExpectRefused("llama3", "/added_tokens/1/id", (1 << 24) - 1, "belong to no token");
  ExpectRefused("llama3", "/model/vocab/a", (1 << 24) - 1, "belong to no token");
  ExpectRefused("llama3", "/added_tokens/1/content", std::string(5000, 'a'), "longer than 4096 bytes");
  const nlohmann::json doubling = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  ExpectRefused("llama2_spm", "/normalizer/normalizers", nlohmann::json(11, doubling), "1024 times as long");
  ExpectRefused("llama2_spm", "/decoder/decoders", nlohmann::json(11, doubling), "1024 times as long");
  ExpectRefused("llama2_spm", "/normalizer/normalizers/0/prepend", std::string(1024, 'a'), "1024 times as long");
  ExpectRefused("clip", "/normalizer/normalizers/1/content", std::string(1025, 'a'), "1024 times as long");
  nlohmann::json json = *ParseJson(*ReadFile(TestData("llama2_spm/tokenizer.json")));
  json["normalizer"]["normalizers"] = nlohmann::json(10, doubling);
  const auto tokenizer = Tokenizer::Parse(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Decode((*tokenizer)->Encode("a", false).value(), false), std::string(1024, 'a'));
}

TEST(Tokenizer, NamesTheFile) {
  EXPECT_EQ(Tokenizer::Load("no/such.json").status().code(), absl::StatusCode::kNotFound);
  const std::string path = testing::TempDir() + "/broken.json";
  ASSERT_TRUE(WriteFileAtomically(path, "{\"model\": ").ok());
  EXPECT_EQ(Tokenizer::Load(path).status().message().find(path + ": not JSON"), 0u);
}

TEST(Tokenizer, SurvivesDeepNesting) {
  EXPECT_FALSE(Tokenizer::Parse(std::string(1 << 20, '[')).ok());
  EXPECT_FALSE(Tokenizer::Parse(std::string(1 << 20, '[') + std::string(1 << 20, ']')).ok());
}

// A fixture with few of its tokens: small enough to be parsed thousands of times.
std::string SmallTokenizer(const std::string& fixture) {
  constexpr size_t kTokens = 560;
  nlohmann::json json = *ParseJson(*ReadFile(TestData(fixture + "/tokenizer.json")));
  // A table without keys: the real one, a third of a megabyte, has a test of its own.
  if (fixture == "t5_precompiled") json["normalizer"]["normalizers"][0]["precompiled_charsmap"] = "BAAAAAAAAAA=";
  nlohmann::json& model = json["model"];
  if (model["type"] == "Unigram") {
    model["vocab"].erase(model["vocab"].begin() + kTokens, model["vocab"].end());
    return json.dump();
  }
  nlohmann::json vocab = nlohmann::json::object();
  for (const auto& [token, id] : model["vocab"].items()) {
    // Bytes, which are one or two bytes in the byte-level alphabet, must all be there, also at the end of a word.
    const size_t suffix = token.size() > 4 && token.find("</w>") == token.size() - 4 ? 4 : 0;
    if (id.get<size_t>() < kTokens || token.size() - suffix <= 2) vocab[token] = id;
  }
  nlohmann::json merges = nlohmann::json::array();
  for (const nlohmann::json& merge : model["merges"]) {
    std::string left, right;
    if (merge.is_array()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      const std::string text = merge.get<std::string>();
      left = text.substr(0, text.find(' '));
      right = text.substr(text.find(' ') + 1);
    }
    if (vocab.count(left) != 0 && vocab.count(right) != 0 && vocab.count(left + right) != 0) merges.push_back(merge);
  }
  model["vocab"] = vocab;
  model["merges"] = merges;
  return json.dump();
}

// `json` with one to three bytes changed, pieces cut out or copied, or its end cut off.
std::string MutateText(std::string json, std::mt19937* random) {
  const int changes = 1 + (*random)() % 3;
  for (int change = 0; change < changes && json.size() > 100; ++change) {
    // Most of the file is vocabulary: aim at the structure around it as often.
    size_t at = (*random)() % json.size();
    if ((*random)() % 2 != 0) at = json.find("\"type\"", at) % json.size();
    switch ((*random)() % 5) {
      case 0:
        json[at] = static_cast<char>((*random)());
        break;
      case 1:
        json.erase(at, 1 + (*random)() % 20);
        break;
      case 2:
        json.insert(at, json.substr((*random)() % json.size(), 1 + (*random)() % 40));
        break;
      case 3:
        json[at] = "0123456789[]{}\",:\\nullte-"[(*random)() % 25];
        break;
      case 4:
        if ((*random)() % 8 == 0) json.resize(at);
        break;
    }
  }
  return json;
}

// `json` with one member of an object or list, at any depth, taken out, or replaced by a value of another type.
nlohmann::json MutateTree(nlohmann::json json, std::mt19937* random) {
  const nlohmann::json others[] = {nullptr, true, -1, 1e300, "", "\u2581", nlohmann::json::array(), {{"type", "NFC"}}};
  nlohmann::json* node = &json;
  while (true) {
    auto child = node->begin();
    std::advance(child, (*random)() % node->size());
    if (child->is_structured() && !child->empty() && (*random)() % 4 != 0) {
      node = &*child;
      continue;
    }
    if ((*random)() % 2 != 0) {
      node->erase(child);
    } else {
      *child = others[(*random)() % std::size(others)];
    }
    return json;
  }
}

// Whatever becomes of the file: an error, or a tokenizer that works.
TEST_P(HuggingFace, SurvivesMutations) {
  constexpr int kMutations = 250;  // a taste of what //tests/fuzz:tokenizer_fuzz does with millions
  const std::string original = SmallTokenizer(GetParam());
  ASSERT_TRUE(Tokenizer::Parse(original).ok()) << Tokenizer::Parse(original).status();
  const nlohmann::json tree = nlohmann::json::parse(original);
  const std::string text = "Hello, it's <|begin_of_text|> <s> 1234 caf\xC3\xA9 e\xCC\x81\xEF\xAC\x81\r\n  end";
  std::mt19937 random(7);
  int loaded = 0;
  for (int i = 0; i < kMutations; ++i) {
    const std::string json = i % 2 == 0 ? MutateText(original, &random) : MutateTree(tree, &random).dump();
    const auto tokenizer = Tokenizer::Parse(json);
    if (!tokenizer.ok()) {
      EXPECT_FALSE(tokenizer.status().message().empty());
      continue;
    }
    ++loaded;
    const auto ids = (*tokenizer)->Encode(text, true);
    if (!ids.ok()) continue;
    EXPECT_EQ(FindInvalidUtf8((*tokenizer)->Decode(*ids, random() % 2)), std::nullopt);
  }
  EXPECT_GT(loaded, kMutations / 50);
  EXPECT_LT(loaded, kMutations - kMutations / 50);
}

}  // namespace
}  // namespace titan
