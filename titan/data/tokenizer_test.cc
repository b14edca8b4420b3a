#include "titan/data/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <thread>

#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/data/json.h"

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
    EXPECT_EQ((*tokenizer)->Decode(document["ids"].get<std::vector<int64_t>>(), false), text);
  }
}

INSTANTIATE_TEST_SUITE_P(All, HuggingFace, testing::Values("llama3", "o200k", "deepseek_v3", "deepseek_llm"));

TEST(Tokenizer, KnowsWhereDocumentsBeginAndEnd) {
  const auto llama3 = LoadLlama3();
  EXPECT_EQ(llama3->bos_id(), 2805);
  EXPECT_EQ(llama3->eos_id(), 2806);
  EXPECT_EQ(llama3->vocab_size(), 2811);
  const auto deepseek = Tokenizer::Load(TestData("deepseek_v3/tokenizer.json"));
  EXPECT_EQ((*deepseek)->bos_id(), 2700);
  EXPECT_EQ((*deepseek)->eos_id(), 2701);
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

// Each is a tokenizer.json with one thing changed, and a part of the message.
TEST(Tokenizer, SaysWhatIsNotSupportedOrMalformed) {
  const auto message = [](const char* pointer, const nlohmann::json& value) {
    nlohmann::json json = Llama3Json();
    json[nlohmann::json::json_pointer(pointer)] = value;
    const auto tokenizer = Tokenizer::Parse(json.dump());
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << pointer;
    return std::string(tokenizer.status().message());
  };
  const auto expect = [&](const char* pointer, const nlohmann::json& value, const std::string& part) {
    EXPECT_NE(message(pointer, value).find(part), std::string::npos) << message(pointer, value);
  };
  const char* pattern = "/pre_tokenizer/pretokenizers/0/pattern/Regex";
  expect("/normalizer", {{"type", "NFC"}}, "the normalizer \"NFC\"");
  expect("/model/type", "Unigram", "the model \"Unigram\"");
  expect("/model/end_of_word_suffix", "</w>", "end_of_word_suffix");
  expect("/model/dropout", 0.1, "dropout");
  expect("/model/merges/3", "abc", "merge 3 must be");
  expect("/model/merges/3", {"q", "zzz"}, "is not in the vocabulary");
  expect("/model/vocab/a", -1, "the id of \"a\"");
  expect("/model/vocab", nlohmann::json::object(), "without the byte 0x00");
  expect("/pre_tokenizer", nullptr, "the pre_tokenizer \"\"");
  expect("/pre_tokenizer/pretokenizers/1/type", "Metaspace", "the pre_tokenizer \"Metaspace\"");
  expect("/pre_tokenizer/pretokenizers/1/add_prefix_space", true, "add_prefix_space");
  expect("/pre_tokenizer/pretokenizers/0/behavior", "MergedWithNext", "MergedWithNext");
  expect(pattern, "\\w+", "this escape at byte 0");
  expect(pattern, "[a-z&&[aeiou]]", "the intersection of classes");
  expect(pattern, "(a", "missing closing parenthesis");
  expect("/decoder/type", "Metaspace", "the decoder \"Metaspace\"");
  expect("/post_processor/type", "BertProcessing", "the post_processor \"BertProcessing\"");
  expect("/truncation", {{"max_length", 4}}, "\"truncation\"");
  expect("/added_tokens/1/id", 2805, "both have the id 2805");
  expect("/added_tokens/1/single_word", true, "added_tokens[1]: not supported yet: single_word");
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

// Small enough to be parsed thousands of times.
std::string SmallTokenizer() {
  nlohmann::json json = Llama3Json();
  nlohmann::json vocab = nlohmann::json::object();
  for (const auto& [token, id] : json["model"]["vocab"].items()) {
    if (id.get<int>() < 300) vocab[token] = id;
  }
  nlohmann::json merges = nlohmann::json::array();
  for (const nlohmann::json& merge : json["model"]["merges"]) {
    std::string joined = merge.get<std::string>();
    joined.erase(joined.find(' '), 1);
    if (vocab.count(joined) != 0) merges.push_back(merge);
  }
  json["model"]["vocab"] = vocab;
  json["model"]["merges"] = merges;
  return json.dump();
}

// Whatever becomes of the file: an error, or a tokenizer that works.
TEST(Tokenizer, SurvivesMutations) {
  const std::string original = SmallTokenizer();
  ASSERT_TRUE(Tokenizer::Parse(original).ok());
  const std::string text = "Hello, it's <|begin_of_text|> 1234 caf\xC3\xA9\r\n  end";
  std::mt19937 random(7);
  int loaded = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string json = original;
    const int changes = 1 + random() % 3;
    for (int change = 0; change < changes; ++change) {
      // Most of the file is vocabulary: aim at the structure around it as often.
      const size_t at =
          random() % 2 ? random() % json.size() : json.find("\"type\"", random() % json.size()) % json.size();
      switch (random() % 4) {
        case 0:
          json[at] = static_cast<char>(random());
          break;
        case 1:
          json.erase(at, 1 + random() % 20);
          break;
        case 2:
          json.insert(at, json.substr(random() % json.size(), 1 + random() % 40));
          break;
        case 3:
          json[at] = "0123456789[]{}\",:\\nullte-"[random() % 25];
          break;
      }
    }
    const auto tokenizer = Tokenizer::Parse(json);
    if (!tokenizer.ok()) {
      EXPECT_FALSE(tokenizer.status().message().empty());
      continue;
    }
    ++loaded;
    const auto ids = (*tokenizer)->Encode(text, true);
    if (ids.ok()) (*tokenizer)->Decode(*ids, random() % 2);
  }
  EXPECT_GT(loaded, 50);
  EXPECT_LT(loaded, 2950);
}

}  // namespace
}  // namespace titan
