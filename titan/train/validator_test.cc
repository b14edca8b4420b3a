#include "titan/train/validator.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"

namespace titan {
namespace {

constexpr int64_t kTokens = 1003;

config::Experiment TinyExperiment(const std::vector<std::string>& overrides = {}) {
  const auto experiment = ReadExperiment(R"({
    "model": {"name": "llama3", "dim": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn_hidden_dim": 24,
              "vocab_size": 32},
    "data": {"sources": [{"corpus": "synthetic"}]},
    "training": {"seq_len": 16, "local_batch_size": 2, "steps": 25, "mixed_precision_param": "float32"},
    "lr_scheduler": {"warmup_steps": 2},
    "validation": {"enable": true, "freq": 10, "sources": [{"corpus": "held_out", "format": "tokens"}],
                   "local_batch_size": 3, "seq_len": 24}
  })",
                                         {.source_name = "test", .overrides = overrides});
  EXPECT_TRUE(experiment.ok()) << experiment.status().message();
  return *experiment;
}

DataFiles HeldOut() {
  std::string bytes;
  for (int64_t i = 0; i < kTokens; ++i) {
    bytes.push_back(static_cast<char>((i * i / 3 + i) % 32));
    bytes.push_back(0);
  }
  const std::string path = testing::TempDir() + "/held_out.uint16.bin";
  EXPECT_TRUE(WriteFileAtomically(path, bytes).ok());
  return {.tokenizer = "", .corpora = {{"held_out", {path}}}};
}

struct Validated {
  explicit Validated(const std::vector<std::string>& overrides = {}) {
    const config::Experiment experiment = TinyExperiment(overrides);
    trainer = Trainer::Create(experiment, {.fp64 = true}).value();
    validator = Validator::Create(experiment, HeldOut(), trainer->mesh()).value();
  }

  std::unique_ptr<Trainer> trainer;
  std::unique_ptr<Validator> validator;
};

TEST(ValidatorTest, IsDueAtTheFirstEveryNthAndTheLastStep) {
  const Validated setup;
  std::vector<int64_t> due;
  for (int64_t step = 1; step <= 25; ++step) {
    if (setup.validator->IsDue(step)) due.push_back(step);
  }
  EXPECT_EQ(due, (std::vector<int64_t>{1, 10, 20, 25}));
}

// Whatever the batches, every label is counted once.
TEST(ValidatorTest, TheWholeSetDoesNotDependOnTheBatches) {
  const Validated base;
  const ValidationLoss expected = base.validator->Run(*base.trainer).value();
  EXPECT_EQ(expected.tokens, kTokens - 1);
  EXPECT_NEAR(expected.loss, std::log(32), 1.0);
  for (const int64_t rows : {1, 2, 14, 100}) {
    const Validated other({absl::StrCat("validation.local_batch_size=", rows)});
    const ValidationLoss loss = other.validator->Run(*other.trainer).value();
    EXPECT_EQ(loss.tokens, expected.tokens);
    EXPECT_NEAR(loss.loss, expected.loss, 1e-12) << rows << " rows";
  }
}

TEST(ValidatorTest, SeesTheSameTokensEveryTime) {
  for (const char* steps : {"validation.steps=-1", "validation.steps=2"}) {
    const Validated setup({steps});
    const ValidationLoss first = setup.validator->Run(*setup.trainer).value();
    for (int i = 0; i < 3; ++i) {
      const ValidationLoss again = setup.validator->Run(*setup.trainer).value();
      EXPECT_EQ(again.loss, first.loss) << steps;
      EXPECT_EQ(again.tokens, first.tokens) << steps;
    }
  }
}

TEST(ValidatorTest, StopsAfterTheStepsThatItIsTold) {
  const Validated two({"validation.steps=2"});
  EXPECT_EQ(two.validator->Run(*two.trainer)->tokens, 2 * 3 * 24);
  const Validated many({"validation.steps=1000"});  // the set ends before
  EXPECT_EQ(many.validator->Run(*many.trainer)->tokens, kTokens - 1);
}

TEST(ValidatorTest, SyntheticTokensAreOthersThanThoseTrainedOn) {
  const Validated setup({R"(validation.sources=[{"corpus": "synthetic"}])", "validation.steps=1",
                         "validation.seq_len=16", "validation.local_batch_size=2"});
  const config::Experiment experiment = TinyExperiment();
  const Batch trained_on = (*Loader::Create(experiment, {}))->Next().value();
  const double trained_sum = setup.trainer->LossSum(trained_on).value();
  const ValidationLoss loss = setup.validator->Run(*setup.trainer).value();
  EXPECT_EQ(loss.tokens, trained_on.valid_tokens);
  EXPECT_NE(loss.loss, trained_sum / static_cast<double>(loss.tokens));
}

TEST(ValidatorTest, ErrorsNameTheGroup) {
  const config::Experiment experiment = TinyExperiment();
  const absl::Status status = Validator::Create(experiment, {}, Mesh::Single()).status();
  EXPECT_NE(status.message().find("validation.sources: data source \"held_out\": no files"), std::string::npos)
      << status;
}

}  // namespace
}  // namespace titan
