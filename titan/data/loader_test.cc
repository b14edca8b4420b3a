#include "titan/data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "google/protobuf/text_format.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/config/experiment.pb.h"
#include "titan/data/tokenizer.h"

namespace titan {
namespace {

constexpr char kTokenizer[] = "titan/data/testdata/llama3/tokenizer.json";
constexpr int64_t kBos = 2805;
constexpr int64_t kEos = 2806;

config::Experiment MakeExperiment(const std::string& changes = "") {
  config::Experiment experiment;
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(
      R"pb(
            model { vocab_size: 2811 }
            data { num_prefetch_batches: 2 shuffle: true seed: 3 repeat: true }
            training { local_batch_size: 3 global_batch_size: -1 seq_len: 16 }
      )pb" +
          changes,
      &experiment));
  return experiment;
}

std::string WriteTemporary(const std::string& name, const std::string& content) {
  const std::string path = testing::TempDir() + "/" + name;
  EXPECT_TRUE(WriteFileAtomically(path, content).ok());
  return path;
}

std::string Jsonl(int documents) {
  std::string lines;
  for (int i = 0; i < documents; ++i) {
    std::string text;
    for (int word = 0; word < i * 7 % 23; ++word)
      text += "word " + std::to_string(i * word) + (word % 5 ? ", " : ".\n");
    lines += nlohmann::json({{"text", text}, {"id", i}}).dump() + "\n";
  }
  return lines;
}

struct Input {
  config::Experiment experiment;
  DataFiles files;
};

Input JsonlInput(const std::string& changes = "", int documents = 20) {
  return {MakeExperiment(R"pb(data { sources { corpus: "docs" format: FORMAT_JSONL } })pb" + changes),
          {kTokenizer, {{"docs", {WriteTemporary("docs.jsonl", Jsonl(documents))}}}}};
}

std::unique_ptr<Loader> MakeLoader(const Input& setup) {
  auto loader = Loader::Create(setup.experiment, setup.files);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return *std::move(loader);
}

void ExpectEqual(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_EQ(a.positions, b.positions);
  EXPECT_EQ(a.valid_tokens, b.valid_tokens);
}

TEST(Loader, PutsBosAndEosAroundEveryDocument) {
  Input setup = JsonlInput("data { shuffle: false }");
  setup.experiment.mutable_training()->set_seq_len(1);
  setup.experiment.mutable_training()->set_global_batch_size(4000);
  setup.experiment.mutable_data()->set_repeat(true);
  const Batch batch = *MakeLoader(setup)->Next();
  ASSERT_EQ(batch.rows, 4000);
  ASSERT_EQ(batch.valid_tokens, 4000);
  const auto tokenizer = *Tokenizer::Load(kTokenizer);
  std::vector<int64_t> tokens;
  std::vector<int64_t> labels;
  for (int i = 0; tokens.size() < 4000; ++i) {
    std::string lines = Jsonl(20);
    for (int line = 0; line < i % 20; ++line) lines.erase(0, lines.find('\n') + 1);
    std::vector<int64_t> ids =
        *tokenizer->Encode(nlohmann::json::parse(lines.substr(0, lines.find('\n')))["text"].get<std::string>(), false);
    ids.insert(ids.begin(), kBos);
    ids.push_back(kEos);
    tokens.insert(tokens.end(), ids.begin(), ids.end() - 1);
    labels.insert(labels.end(), ids.begin() + 1, ids.end());
  }
  tokens.resize(4000);
  labels.resize(4000);
  EXPECT_EQ(batch.tokens, tokens);
  EXPECT_EQ(batch.labels, labels);
}

TEST(Loader, ContinuesExactlyAfterEveryBatch) {
  const Input setup = JsonlInput();
  const auto loader = MakeLoader(setup);
  std::vector<std::string> states;
  std::vector<Batch> batches;
  for (int i = 0; i < 40; ++i) {
    states.push_back(loader->State());
    batches.push_back(*loader->Next());
  }
  EXPECT_NE(states.back().find("\"epoch\":1"), std::string::npos) << "the test must pass an epoch's end";
  const auto other = MakeLoader(setup);
  for (size_t i = 0; i < batches.size(); i += 3) {
    ASSERT_TRUE(other->Restore(states[i]).ok());
    EXPECT_EQ(other->State(), states[i]);
    ExpectEqual(*other->Next(), batches[i]);
    if (i + 1 < batches.size()) {
      ExpectEqual(*other->Next(), batches[i + 1]);
    }
  }
}

TEST(Loader, PrefetchAndBatchSizeDoNotChangeTheStream) {
  Input setup = JsonlInput();
  const auto read = [&](int64_t prefetch, int64_t rows, int64_t batches) {
    setup.experiment.mutable_data()->set_num_prefetch_batches(prefetch);
    setup.experiment.mutable_training()->set_global_batch_size(rows);
    const auto loader = MakeLoader(setup);
    std::vector<int64_t> tokens;
    for (int64_t i = 0; i < batches; ++i) {
      const Batch batch = *loader->Next();
      tokens.insert(tokens.end(), batch.tokens.begin(), batch.tokens.end());
    }
    return tokens;
  };
  const std::vector<int64_t> expected = read(1, 1, 24);
  EXPECT_EQ(read(7, 1, 24), expected);
  EXPECT_EQ(read(1, 4, 6), expected);
  EXPECT_EQ(read(3, 24, 1), expected);
}

TEST(Loader, SeedDecidesTheOrder) {
  const Batch first = *MakeLoader(JsonlInput())->Next();
  EXPECT_NE(MakeLoader(JsonlInput("data { seed: 4 }"))->Next()->tokens, first.tokens);
  EXPECT_NE(MakeLoader(JsonlInput("data { shuffle: false }"))->Next()->tokens, first.tokens);
}

TEST(Loader, EndsWithTheCorpusUnlessItRepeats) {
  const auto loader = MakeLoader(JsonlInput("data { repeat: false }"));
  absl::StatusOr<Batch> batch = loader->Next();
  int batches = 0;
  for (; batch.ok() && batches < 1000; ++batches) batch = loader->Next();
  EXPECT_GT(batches, 5);
  EXPECT_EQ(batch.status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(loader->Next().status().code(), absl::StatusCode::kOutOfRange);
}

// Every token of the corpus, once, whatever the number of rows: what does not fill the last batch is padded.
TEST(Loader, PadsTheLastBatchWhereAsked) {
  Input setup = JsonlInput("data { shuffle: false repeat: false }");
  const auto read = [&](int64_t rows, int64_t seq_len, std::vector<int64_t>* labels) {
    setup.experiment.mutable_training()->set_global_batch_size(rows);
    setup.experiment.mutable_training()->set_seq_len(seq_len);
    const auto loader = Loader::Create(setup.experiment, setup.files, {.pads = true});
    EXPECT_TRUE(loader.ok()) << loader.status();
    int64_t padding = 0;
    absl::StatusOr<Batch> batch = (*loader)->Next();
    for (; batch.ok(); batch = (*loader)->Next()) {
      EXPECT_EQ(static_cast<int64_t>(batch->tokens.size()), rows * seq_len);
      int64_t valid = 0;
      for (size_t i = 0; i < batch->labels.size(); ++i) {
        const bool is_padding = batch->labels[i] == -100;
        EXPECT_TRUE(is_padding || padding == 0) << "a label after padding";
        if (is_padding) {
          ++padding;
          EXPECT_EQ(batch->tokens[i], 0);
          EXPECT_LT(batch->positions[i], seq_len);
        } else {
          ++valid;
          labels->push_back(batch->labels[i]);
        }
      }
      EXPECT_EQ(batch->valid_tokens, valid);
      EXPECT_GT(valid, 0);
    }
    EXPECT_EQ(batch.status().code(), absl::StatusCode::kOutOfRange);
    return padding;
  };
  std::vector<int64_t> one_by_one, labels;
  EXPECT_EQ(read(1, 1, &one_by_one), 0);
  EXPECT_GT(one_by_one.size(), 300u);
  EXPECT_GT(read(7, 13, &labels), 0);
  EXPECT_EQ(labels, one_by_one);
  labels.clear();
  EXPECT_GT(read(1000, 16, &labels), 0) << "all in one batch";
  EXPECT_EQ(labels, one_by_one);
}

TEST(Loader, RefusesTheStateOfOtherData) {
  const Input setup = JsonlInput();
  const std::string state = MakeLoader(setup)->State();
  const auto expect_refused = [&](const Input& other, const std::string& part) {
    const absl::Status status = MakeLoader(other)->Restore(state);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(part), std::string::npos) << status;
  };
  expect_refused(JsonlInput("data { seed: 4 }"), "another data.seed");
  expect_refused(JsonlInput("data { shuffle: false }"), "another data.shuffle");
  expect_refused(JsonlInput("", 21), "other corpus files");
  nlohmann::json tokenizer = nlohmann::json::parse(*ReadFile(kTokenizer));
  tokenizer["model"]["ignore_merges"] = false;
  Input other_tokenizer = JsonlInput();
  other_tokenizer.files.tokenizer = WriteTemporary("other.json", tokenizer.dump());
  expect_refused(other_tokenizer, "another tokenizer");
  // Where a file lies does not matter.
  Input moved = JsonlInput();
  ASSERT_TRUE(MakeDirectories(testing::TempDir() + "/moved").ok());
  moved.files.corpora["docs"] = {WriteTemporary("moved/docs.jsonl", Jsonl(20))};
  EXPECT_TRUE(MakeLoader(moved)->Restore(state).ok());

  const auto loader = MakeLoader(setup);
  const Batch first = *MakeLoader(setup)->Next();
  for (size_t size = 0; size < state.size(); ++size) EXPECT_FALSE(loader->Restore(state.substr(0, size)).ok());
  for (const char* key : {"version", "epoch", "document", "offset"}) {
    for (const nlohmann::json& value : {nlohmann::json(-1), nlohmann::json("x"), nlohmann::json()}) {
      nlohmann::json changed = nlohmann::json::parse(state);
      changed[key] = value;
      EXPECT_FALSE(loader->Restore(changed.dump()).ok()) << changed;
    }
  }
  ExpectEqual(*loader->Next(), first);  // a refused state changes nothing
}

TEST(Loader, ErrorsNameSourceFileAndLine) {
  const auto message_of = [](const std::string& content) {
    Input setup = JsonlInput();
    setup.files.corpora["docs"] = {WriteTemporary("bad.jsonl", content)};
    auto loader = Loader::Create(setup.experiment, setup.files);
    if (!loader.ok()) return std::string(loader.status().message());
    EXPECT_FALSE((*loader)->Next().ok());
    return std::string((*loader)->Next().status().message());
  };
  const auto expect = [&](const std::string& content, const std::string& part) {
    EXPECT_NE(message_of(content).find(part), std::string::npos) << message_of(content);
  };
  const std::string good = "{\"text\": \"fine\"}\n";
  expect(good + "\n{\"text\": \"cut\n", "bad.jsonl:3: not JSON");
  expect(good + "{\"body\": \"x\"}\n", "bad.jsonl:2: no string \"text\" (text_field)");
  expect(good + "{\"text\": 5}\n", "bad.jsonl:2: no string \"text\"");
  expect(good + "[1]\n", "bad.jsonl:2: not a JSON object");
  expect(good + "{\"text\": \"\xFF\"}\n", "bad.jsonl:2: not JSON");
  expect("\n \n", "data source \"docs\": there are no documents");
}

Input MixedInput(double weight, const std::string& changes = "") {
  Input setup = JsonlInput(changes);
  config::Source* more = setup.experiment.mutable_data()->add_sources();
  more->set_corpus("more");
  more->set_format(config::Source::FORMAT_JSONL);
  more->set_weight(weight);
  setup.files.corpora["more"] = {WriteTemporary("more.jsonl", Jsonl(9))};
  return setup;
}

TEST(Loader, MixesByWeightAndContinuesExactly) {
  const Input setup = MixedInput(3);
  const auto loader = MakeLoader(setup);
  std::vector<std::string> states;
  std::vector<Batch> batches;
  for (int i = 0; i < 40; ++i) {
    states.push_back(loader->State());
    batches.push_back(*loader->Next());
  }
  const auto other = MakeLoader(setup);
  for (size_t i = 0; i < batches.size(); i += 3) {
    ASSERT_TRUE(other->Restore(states[i]).ok());
    ExpectEqual(*other->Next(), batches[i]);
  }
  const auto differs = [&](const Input& changed) {
    const auto loader = MakeLoader(changed);
    for (const Batch& batch : batches) {
      if (loader->Next()->tokens != batch.tokens) return true;
    }
    return false;
  };
  EXPECT_FALSE(differs(setup));
  EXPECT_TRUE(differs(MixedInput(5)));
  EXPECT_TRUE(differs(MixedInput(3, "data { seed: 4 }")));
  for (const double weight : {1.0, 5.0}) {
    const absl::Status status = MakeLoader(MixedInput(weight))->Restore(states[5]);
    EXPECT_NE(status.message().find("other corpus files"), std::string::npos) << status;
  }
}

TEST(Loader, SourcesOfWeightOneAreOneCorpus) {
  Input setup = MixedInput(1, "data { repeat: false } training { seq_len: 1 local_batch_size: 1 }");
  const auto count = [&] {
    const auto loader = MakeLoader(setup);
    int64_t starts = 0;
    for (absl::StatusOr<Batch> batch = loader->Next(); batch.ok(); batch = loader->Next()) {
      starts += batch->tokens[0] == kBos;
    }
    return starts;
  };
  EXPECT_EQ(count(), 20 + 9);
  // Ends with the source that is used up first: about 9 of 3 draws in 4, and 3 of the other one.
  setup.experiment.mutable_data()->mutable_sources(1)->set_weight(3);
  EXPECT_GE(count(), 9);
  EXPECT_LT(count(), 20);
}

// Training sees every document that validation does not, and validation the others: whatever the batches.
TEST(Loader, HeldOutDocumentsAreValidatedAndNeverTrainedOn) {
  // The sizes of the documents that come, which are all different.
  const auto documents_of = [](const Input& setup, const LoaderOptions& options) {
    const auto loader = *Loader::Create(setup.experiment, setup.files, options);
    std::multiset<int64_t> sizes;
    int64_t size = 0;
    const auto add = [&](int64_t token, int64_t label) {
      if (label == -100) return;
      if (token == kBos) size = 0;
      ++size;
      if (label == kEos) sizes.insert(size);
    };
    for (absl::StatusOr<Batch> batch = loader->Next(); batch.ok(); batch = loader->Next()) {
      for (size_t i = 0; i < batch->tokens.size(); ++i) add(batch->tokens[i], batch->labels[i]);
    }
    return sizes;
  };
  std::string lines;
  for (int d = 1; d <= 80; ++d) {
    std::string text;
    for (int i = 0; i < d; ++i) text += "a ";
    lines += nlohmann::json({{"text", text}}).dump() + "\n";
  }
  const auto make = [&](const std::string& changes) {
    Input setup = JsonlInput("data { repeat: false }" + changes);
    setup.files.corpora["docs"] = {WriteTemporary("sizes.jsonl", lines)};
    return setup;
  };
  const std::multiset<int64_t> all = documents_of(make(""), {.pads = true});
  ASSERT_EQ(all.size(), 80u);
  ASSERT_EQ(std::set<int64_t>(all.begin(), all.end()).size(), 80u);
  for (const std::string split : {"validation_split: 0.2", "validation_documents: 7"}) {
    Input setup = make("data { shuffle_window: 9 }");
    config::Source* source = setup.experiment.mutable_data()->mutable_sources(0);
    ASSERT_TRUE(google::protobuf::TextFormat::MergeFromString(split, source));
    const std::multiset<int64_t> training = documents_of(setup, {.pads = true});
    const std::multiset<int64_t> held_out = documents_of(setup, {.pads = true, .reads_held_out = true});
    EXPECT_GE(held_out.size(), 7u);
    std::multiset<int64_t> together = training;
    together.insert(held_out.begin(), held_out.end());
    EXPECT_EQ(together, all) << "each document once, in one of both";
    // The order of training does not change the split.
    setup.experiment.mutable_data()->set_seed(99);
    setup.experiment.mutable_training()->set_local_batch_size(1);
    EXPECT_EQ(documents_of(setup, {.pads = true}), training);
  }
  const Input whole = make("");
  EXPECT_NE(Loader::Create(whole.experiment, whole.files, {.reads_held_out = true})
                .status()
                .message()
                .find("none of data.sources holds out"),
            std::string::npos);
}

TEST(Loader, ContinuesExactlyWithinAWindow) {
  for (const int64_t window : {2, 6, 1000}) {
    Input setup = window == 6 ? MixedInput(3) : JsonlInput();
    config::Data& data = *setup.experiment.mutable_data();
    data.set_shuffle_window(window);
    data.mutable_sources(0)->set_validation_documents(4);
    const auto loader = MakeLoader(setup);
    std::vector<std::string> states;
    std::vector<Batch> batches;
    for (int i = 0; i < 60; ++i) {
      states.push_back(loader->State());
      batches.push_back(*loader->Next());
    }
    for (size_t i = 0; i < batches.size(); i += 7) {
      const auto other = MakeLoader(setup);
      ASSERT_TRUE(other->Restore(states[i]).ok());
      ExpectEqual(*other->Next(), batches[i]);
    }
    for (const int64_t other_window : {0, 7}) {
      data.set_shuffle_window(other_window);
      const absl::Status refused = MakeLoader(setup)->Restore(states[9]);
      EXPECT_NE(refused.message().find("another data.shuffle_window"), std::string::npos) << refused;
    }
  }
}

TEST(Loader, AWindowChangesTheOrderAndNothingElse) {
  const auto tokens = [](const std::string& changes) {
    const auto loader =
        MakeLoader(JsonlInput("data { repeat: false } training { seq_len: 1 local_batch_size: 1 }" + changes));
    std::vector<int64_t> all;
    for (absl::StatusOr<Batch> batch = loader->Next(); batch.ok(); batch = loader->Next()) {
      all.push_back(batch->tokens[0]);
    }
    return all;
  };
  std::vector<int64_t> in_order = tokens("data { shuffle: false }"), windowed = tokens("data { shuffle_window: 5 }");
  EXPECT_NE(windowed, in_order);
  EXPECT_NE(windowed, tokens(""));
  EXPECT_NE(windowed, tokens("data { shuffle_window: 6 }"));
  std::sort(in_order.begin(), in_order.end());
  std::sort(windowed.begin(), windowed.end());
  EXPECT_EQ(windowed, in_order);
}

TEST(Loader, ReadsTextFiles) {
  Input setup = {MakeExperiment(R"pb(data {
                                       sources { corpus: "texts" format: FORMAT_TEXT }
                                       shuffle: false
                                     }
                                     training { seq_len: 2 local_batch_size: 2 })pb"),
                 {kTokenizer, {{"texts", {WriteTemporary("a.txt", "a"), WriteTemporary("b.txt", "a a")}}}}};
  EXPECT_EQ(MakeLoader(setup)->Next()->tokens, (std::vector<int64_t>{kBos, 64, kBos, 64}));
  setup.files.corpora["texts"] = {WriteTemporary("c.txt", "caf\xE9")};
  EXPECT_NE(MakeLoader(setup)->Next().status().message().find("c.txt: not UTF-8 at byte 3"), std::string::npos);
}

TEST(Loader, SyntheticTokensAreAFunctionOfTheSeed) {
  const auto make = [](int seed) {
    return MakeLoader({MakeExperiment(R"pb(data { sources { corpus: "synthetic" }
                                                  seed:)pb" +
                                      std::to_string(seed) + "}"),
                       {}});
  };
  const Batch batch = *make(1)->Next();
  ExpectEqual(*make(1)->Next(), batch);
  EXPECT_NE(make(2)->Next()->tokens, batch.tokens);
  for (const int64_t token : batch.tokens) ASSERT_LT(token, 2811);
  for (int64_t i = 0; i < 48; ++i) EXPECT_EQ(batch.positions[i], i % 16);
}

TEST(Loader, ChecksItsSources) {
  const auto code = [](const Input& setup) { return Loader::Create(setup.experiment, setup.files).status().code(); };
  Input unbound = JsonlInput();
  unbound.files.corpora.clear();
  EXPECT_EQ(code(unbound), absl::StatusCode::kNotFound);
  Input no_tokenizer = JsonlInput();
  no_tokenizer.files.tokenizer.clear();
  EXPECT_EQ(code(no_tokenizer), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(JsonlInput("model { vocab_size: 2810 }")), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(JsonlInput(R"pb(data { sources { corpus: "synthetic" } })pb")), absl::StatusCode::kInvalidArgument);
}

TEST(Batch, Slices) {
  const Batch batch = {3, 2, {1, 2, 3, 4, 5, 6}, {7, -100, 8, 9, -100, -100}, {0, 1, 0, 1, 0, 0}, 3};
  const Batch slice = batch.Slice(1, 3);
  EXPECT_EQ(slice.rows, 2);
  EXPECT_EQ(slice.tokens, (std::vector<int64_t>{3, 4, 5, 6}));
  EXPECT_EQ(slice.labels, (std::vector<int64_t>{8, 9, -100, -100}));
  EXPECT_EQ(slice.positions, (std::vector<int64_t>{0, 1, 0, 0}));
  EXPECT_EQ(slice.valid_tokens, 2);
}

#ifndef __SANITIZE_ADDRESS__  // which ends the process instead
TEST(Loader, SaysThatMemoryDoesNotHoldTheBatch) {
  Input setup = JsonlInput();
  setup.experiment.mutable_training()->set_global_batch_size(int64_t{1} << 20);
  setup.experiment.mutable_training()->set_seq_len(int64_t{1} << 24);  // 2^47 bytes: more than addresses
  const absl::Status status = MakeLoader(setup)->Next().status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_NE(status.message().find("1048576 x 16777216 tokens"), std::string::npos) << status;
}
#endif

}  // namespace
}  // namespace titan
