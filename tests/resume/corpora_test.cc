// Whole runs on the same corpus in other shapes: text and the ids that were made of it beforehand give the same losses
// to the last bit; what is held out is validated with; a window of documents continues where it was.

#include <signal.h>
#include <sys/wait.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/resume/trainer_runs.h"
#include "titan/base/file.h"
#include "titan/base/sha256.h"
#include "titan/data/document_source.h"
#include "titan/data/text_source.h"
#include "titan/data/token_corpus.h"
#include "titan/data/tokenizer.h"

namespace titan {
namespace {

using nlohmann::json;

constexpr char kTokenizer[] = "experiments/data/debug_tokenizer.json";

constexpr char kExperiment[] = R"({
  "model": {"name": "llama3", "dim": 16, "n_layers": 1, "n_heads": 2, "ffn_hidden_dim": 24, "vocab_size": 2048},
  "data": {"sources": [{"corpus": "text", "format": "jsonl"}]},
  "training": {"seq_len": 32, "local_batch_size": 1, "global_batch_size": 4, "steps": 40,
               "mixed_precision_param": "float32"},
  "optimizer": {"lr": 0.01},
  "lr_scheduler": {"warmup_steps": 2},
  "checkpoint": {"enable": true, "interval": 10},
  "validation": {"enable": false, "freq": 20, "local_batch_size": 2, "seq_len": 32},
  "determinism": {"mode": "bitwise"}
})";

// 60 documents of 1 to 45 words.
std::string Texts() {
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    std::string text;
    for (int word = 0; word <= i * 7 % 45; ++word) absl::StrAppend(&text, "models learn ", i * word % 100, " words. ");
    absl::StrAppend(&lines, json({{"text", text}}).dump(), "\n");
  }
  return lines;
}

// A bundle with the tokenizer and the corpora "text" and "tokens".
std::map<std::string, std::string> Files() {
  const std::string texts = testing::TempDir() + "/texts.jsonl", tokens = testing::TempDir() + "/tokens.safetensors";
  WriteTestFile(texts, Texts());
  const std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::Load(kTokenizer).value();
  const auto documents = Tokenized(OpenJsonl({texts}, "text").value(), tokenizer).value();
  EXPECT_TRUE(WriteTokenCorpus(*documents, {Sha256OfFile(kTokenizer).value(), tokenizer->vocab_size()},
                               {.path = tokens, .num_threads = 2})
                  .ok());
  std::map<std::string, std::string> files = {{"data/tokenizer.json", ReadFile(kTokenizer).value()},
                                              {"data/text/texts.jsonl", Texts()},
                                              {"data/tokens/tokens.safetensors", ReadFile(tokens).value()}};
  const auto listed = [&](const std::string& path) {
    return json({{"path", path}, {"bytes", files.at(path).size()}, {"sha256", Sha256Hex(files.at(path))}});
  };
  const json data = {{"tokenizer", listed("data/tokenizer.json")},
                     {"corpora",
                      {{"text", json::array({listed("data/text/texts.jsonl")})},
                       {"tokens", json::array({listed("data/tokens/tokens.safetensors")})}}}};
  files["data.json"] = data.dump();
  return files;
}

class CorporaTest : public TrainerRunTest {
 protected:
  CorporaTest() : TrainerRunTest(kExperiment, Files()) {}

  std::vector<json> Validations(const std::string& out) const {
    std::vector<json> validations;
    for (const std::string& text : Lines(out + "/metrics.jsonl")) {
      const json line = json::parse(text);
      if (line.contains("validation_loss")) validations.push_back(line);
    }
    return validations;
  }
};

const char kTokens[] = R"(data.sources=[{"corpus": "tokens", "format": "tokens"}])";

TEST_F(CorporaTest, TokensGiveTheLossesOfTheirText) {
  ASSERT_EQ(Run("text"), 0) << Log();
  ASSERT_EQ(Run("tokens", {"--set", kTokens}), 0) << Log();
  ExpectSameSteps("text", "tokens", 40);
  ExpectSameFiles("text/checkpoint/step-40", "tokens/checkpoint/step-40", ".safetensors");
}

TEST_F(CorporaTest, AWindowContinuesBitForBit) {
  const std::vector<std::string> window = {"--set", "data.shuffle_window=16"};
  std::vector<std::string> half = window;
  half.insert(half.end(), {"--set", "training.steps=20", "--set", "lr_scheduler.total_steps=40"});
  ASSERT_EQ(Run("straight", window), 0) << Log();
  ASSERT_EQ(Run("continued", half), 0) << Log();
  std::vector<std::string> rest = window;
  rest.push_back("--allow_digest_change");
  ASSERT_EQ(Run("continued", rest), 0) << Log();
  ExpectSameSteps("straight", "continued", 40);
  ASSERT_EQ(Run("no_window"), 0) << Log();
  EXPECT_NE(json::parse(Lines("no_window/metrics.jsonl")[20])["loss"],
            json::parse(Lines("straight/metrics.jsonl")[20])["loss"]);
}

TEST_F(CorporaTest, HeldOutDocumentsAreTheSameOnAnyNumberOfRanks) {
  const std::string split = R"(data.sources=[{"corpus": "tokens", "format": "tokens", "validation_documents": 12}])";
  const std::vector<std::string> flags = {"--set", split, "--set", "validation.enable=true"};
  ASSERT_EQ(Run("one", flags), 0) << Log();
  ASSERT_EQ(Run("unvalidated", {"--set", split}), 0) << Log();
  std::vector<std::string> two = flags;
  two.insert(two.end(), {"--nproc", "2"});
  ASSERT_EQ(Run("two", two), 0) << Log();
  const std::vector<json> one_rank = Validations("one"), two_ranks = Validations("two");
  ASSERT_EQ(one_rank.size(), 3u);
  ASSERT_EQ(two_ranks.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(one_rank[i]["validation_tokens"], two_ranks[i]["validation_tokens"]);
    const double loss = one_rank[i]["validation_loss"];
    EXPECT_NEAR(two_ranks[i]["validation_loss"].get<double>(), loss, 1e-5 * loss);
  }
  EXPECT_LT(one_rank[2]["validation_loss"], one_rank[0]["validation_loss"]);
  // Whether anybody validates with them or not, they are not trained on.
  ExpectSameFiles("one/checkpoint/step-40", "unvalidated/checkpoint/step-40", ".safetensors");
}

TEST_F(CorporaTest, AnotherTokenizersTokensEndTheRunAtItsStart) {
  json other = json::parse(ReadFile(kTokenizer).value());
  other["model"]["ignore_merges"] = true;
  const std::string text = other.dump(), path = Path("bundle/data/tokenizer.json");
  WriteTestFile(path, text);
  json data = json::parse(ReadFile(Path("bundle/data.json")).value());
  data["tokenizer"] = {{"path", "data/tokenizer.json"}, {"bytes", text.size()}, {"sha256", Sha256Hex(text)}};
  WriteTestFile(Path("bundle/data.json"), data.dump());
  EXPECT_EQ(Run("out", {"--set", kTokens}), 2) << Log();
  EXPECT_NE(Log().find("its tokens are those of the tokenizer with sha256"), std::string::npos) << Log();
  EXPECT_EQ(Run("text"), 0) << Log();
}

}  // namespace
}  // namespace titan
