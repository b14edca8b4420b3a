#include "titan/data/token_corpus.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/sha256.h"
#include "titan/checkpoint/safetensors.h"
#include "titan/config/experiment.pb.h"
#include "titan/data/loader.h"
#include "titan/data/text_source.h"
#include "titan/data/tokenizer.h"

namespace titan {
namespace {

constexpr char kTokenizer[] = "titan/data/testdata/llama3/tokenizer.json";

std::string PathOf(const std::string& name) { return testing::TempDir() + "/" + name; }

// Documents of 0 to 90 words.
std::string WriteTexts(int64_t documents) {
  std::string lines;
  for (int64_t i = 0; i < documents; ++i) {
    std::string text;
    for (int64_t word = 0; word < i * 7 % 91; ++word)
      absl::StrAppend(&text, "word ", i * word, word % 5 ? ", " : ".\n");
    absl::StrAppend(&lines, nlohmann::json({{"text", text}}).dump(), "\n");
  }
  const std::string path = PathOf("texts.jsonl");
  EXPECT_TRUE(WriteFileAtomically(path, lines).ok());
  return path;
}

TokenizerIdentity Identity() {
  return {Sha256OfFile(kTokenizer).value(), Tokenizer::Load(kTokenizer).value()->vocab_size()};
}

std::string WriteTokens(const std::string& texts, const TokenizerIdentity& identity, int64_t num_threads,
                        const std::string& name) {
  const std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::Load(kTokenizer).value();
  const auto documents = Tokenized(OpenJsonl({texts}, "text").value(), tokenizer).value();
  const auto written = WriteTokenCorpus(*documents, identity, {.path = PathOf(name), .num_threads = num_threads});
  EXPECT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->documents, documents->size());
  return PathOf(name);
}

TEST(TokenCorpus, HoldsTheSameDocuments) {
  const std::string texts = WriteTexts(200);
  const std::string path = WriteTokens(texts, Identity(), 2, "same.safetensors");
  const std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::Load(kTokenizer).value();
  const auto expected = Tokenized(OpenJsonl({texts}, "text").value(), tokenizer).value();
  const auto actual = OpenTokenFiles({path}, Identity()).value();
  ASSERT_EQ(actual->size(), expected->size());
  for (int64_t d = 0; d < expected->size(); ++d) {
    const Document a = actual->Read(d).value(), b = expected->Read(d).value();
    ASSERT_EQ(a.size(), b.size()) << d;
    for (int64_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], b[i]) << d << " " << i;
  }
}

TEST(TokenCorpus, ThreadsDoNotChangeTheBytes) {
  const std::string texts = WriteTexts(300);
  const std::string expected = ReadFile(WriteTokens(texts, Identity(), 1, "one.safetensors")).value();
  for (const int64_t threads : {2, 5, 40}) {
    EXPECT_EQ(ReadFile(WriteTokens(texts, Identity(), threads, "more.safetensors")).value(), expected) << threads;
  }
  for (const char* ending : {".tokens", ".partial"}) {
    EXPECT_FALSE(std::filesystem::exists(PathOf(absl::StrCat("one.safetensors", ending))));
  }
}

TEST(TokenCorpus, IdsAreAsWideAsTheVocabularyNeeds) {
  const std::string texts = WriteTexts(30);
  for (const auto& [vocab_size, dtype] : {std::pair<int64_t, StoredDtype>{65536, StoredDtype::kU16},
                                          std::pair<int64_t, StoredDtype>{65537, StoredDtype::kU32}}) {
    const std::string path = WriteTokens(texts, {"abc", vocab_size}, 2, "wide.safetensors");
    const auto file = SafetensorsFile::Open(path).value();
    EXPECT_EQ(file->Find("tokens")->dtype, dtype);
    EXPECT_EQ(file->Find("offsets")->shape, (std::vector<int64_t>{31}));
    EXPECT_EQ(file->metadata().at(kTokenizerSha256Key), "abc");
    EXPECT_EQ(file->metadata().at(kVocabSizeKey), absl::StrCat(vocab_size));
    EXPECT_EQ(OpenTokenFiles({path}).value()->size(), 30);
  }
}

TEST(TokenCorpus, ErrorsNameTheDocumentAndLeaveNoFile) {
  const std::string texts = PathOf("bad.jsonl");
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += i == 77 ? "{\"body\": 1}\n" : "{\"text\": \"fine\"}\n";
  ASSERT_TRUE(WriteFileAtomically(texts, lines).ok());
  const std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::Load(kTokenizer).value();
  const auto documents = Tokenized(OpenJsonl({texts}, "text").value(), tokenizer).value();
  const auto write = [&](const TokenizerIdentity& identity, const std::string& path) {
    return WriteTokenCorpus(*documents, identity, {.path = path, .num_threads = 3}).status();
  };
  EXPECT_NE(write(Identity(), PathOf("no.safetensors")).message().find("bad.jsonl:78: no string"), std::string::npos);
  EXPECT_NE(write({"abc", 100}, PathOf("no.safetensors")).message().find("the tokenizer has 100"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(PathOf("no.safetensors")));
  EXPECT_FALSE(std::filesystem::exists(PathOf("no.safetensors.tokens")));
  EXPECT_FALSE(write(Identity(), PathOf("no/such/folder.safetensors")).ok());
}

// --- The loader on text, and on the same text tokenized.

config::Experiment MakeExperiment(config::Source::Format format) {
  config::Experiment experiment;
  experiment.mutable_model()->set_vocab_size(2811);
  config::Data& data = *experiment.mutable_data();
  data.set_num_prefetch_batches(2);
  data.set_shuffle(true);
  data.set_seed(3);
  data.set_repeat(true);
  config::Source& source = *data.add_sources();
  source.set_corpus("docs");
  source.set_format(format);
  source.set_text_field("text");
  source.set_weight(1);
  experiment.mutable_training()->set_local_batch_size(3);
  experiment.mutable_training()->set_global_batch_size(-1);
  experiment.mutable_training()->set_seq_len(32);
  return experiment;
}

absl::StatusOr<std::unique_ptr<Loader>> LoaderOf(const config::Experiment& experiment, const std::string& file,
                                                 const std::string& tokenizer = kTokenizer) {
  return Loader::Create(experiment, {tokenizer, {{"docs", {file}}}});
}

TEST(TokenCorpus, GivesTheBatchesOfTheText) {
  const std::string texts = WriteTexts(60);
  const std::string tokens = WriteTokens(texts, Identity(), 2, "batches.safetensors");
  for (const auto& change : std::vector<void (*)(config::Data&)>{
           [](config::Data&) {},
           [](config::Data& data) { data.set_shuffle(false); },
           [](config::Data& data) { data.set_shuffle_window(16); },
           [](config::Data& data) { data.mutable_sources(0)->set_validation_split(0.2); },
       }) {
    config::Experiment of_text = MakeExperiment(config::Source::FORMAT_JSONL);
    config::Experiment of_tokens = MakeExperiment(config::Source::FORMAT_TOKENS);
    change(*of_text.mutable_data());
    change(*of_tokens.mutable_data());
    const auto text_loader = LoaderOf(of_text, texts).value(), token_loader = LoaderOf(of_tokens, tokens).value();
    for (int step = 0; step < 200; ++step) {  // more than an epoch
      const Batch a = text_loader->Next().value(), b = token_loader->Next().value();
      ASSERT_EQ(a.tokens, b.tokens) << step;
      ASSERT_EQ(a.labels, b.labels) << step;
      ASSERT_EQ(a.positions, b.positions) << step;
    }
  }
}

TEST(TokenCorpus, AnotherTokenizersTokensAreRefused) {
  const std::string texts = WriteTexts(10);
  const std::string tokens = WriteTokens(texts, Identity(), 1, "refused.safetensors");
  config::Experiment experiment = MakeExperiment(config::Source::FORMAT_TOKENS);
  nlohmann::json other = nlohmann::json::parse(ReadFile(kTokenizer).value());
  other["model"]["ignore_merges"] = false;
  const std::string other_path = PathOf("other_tokenizer.json");
  ASSERT_TRUE(WriteFileAtomically(other_path, other.dump()).ok());
  const absl::Status status = LoaderOf(experiment, tokens, other_path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  for (const std::string& part :
       {std::string("data source \"docs\""), std::string("refused.safetensors"), Identity().sha256,
        Sha256OfFile(other_path).value(), std::string("build the corpus")}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << part << " is not in: " << status;
  }
  EXPECT_TRUE(LoaderOf(experiment, tokens).ok());

  // Without a tokenizer there is the model's vocabulary.
  EXPECT_TRUE(LoaderOf(experiment, tokens, "").ok());
  experiment.mutable_model()->set_vocab_size(100);
  EXPECT_NE(LoaderOf(experiment, tokens, "").status().message().find("model.vocab_size is 100"), std::string::npos);
}

}  // namespace
}  // namespace titan
