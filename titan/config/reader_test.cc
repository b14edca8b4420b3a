#include "titan/config/reader.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/resolved_json.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kModel[] =
    R"("model": {"name": "llama3", "dim": 256, "n_layers": 6, "n_heads": 16, "ffn_hidden_dim": 768, "vocab_size": 2048})";
constexpr char kData[] = R"("data": {"sources": [{"corpus": "docs"}]})";

// An experiment that is right but for `more`, members of the outermost object.
std::string Json(std::string_view more) {
  const bool has_training = more.find("\"training\"") != std::string_view::npos;
  return absl::StrCat("{", kModel, ", ", kData, has_training ? "" : R"(, "training": {"steps": 300})", ", ", more, "}");
}

// The lines of the error message.
std::vector<std::string> Errors(const std::string& json, const ReadOptions& options = {}) {
  const auto experiment = ReadExperiment(json, options);
  if (experiment.ok()) return {};
  EXPECT_EQ(experiment.status().code(), absl::StatusCode::kInvalidArgument);
  return absl::StrSplit(experiment.status().message(), '\n');
}

TEST(ReadExperiment, ReadsValuesAsTheyAreAndFillsDefaultsIn) {
  const auto experiment = ReadExperiment(Json(
      R"("training": {"steps": 300, "max_norm": 2}, "optimizer": {"lr": 3e-4}, "determinism": {"mode": "bitwise"})"));
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  EXPECT_EQ(experiment->model().name(), config::Model::FAMILY_LLAMA3);
  EXPECT_EQ(experiment->training().steps(), 300);
  EXPECT_EQ(experiment->training().max_norm(), 2.0);
  EXPECT_EQ(experiment->optimizer().lr(), 3e-4);
  EXPECT_EQ(experiment->determinism().mode(), config::Determinism::MODE_BITWISE);
  // Defaults are there as set fields, in groups that the JSON does not have, and in elements of lists.
  EXPECT_TRUE(experiment->optimizer().has_beta2());
  EXPECT_EQ(experiment->optimizer().beta2(), 0.95);
  EXPECT_TRUE(experiment->checkpoint().has_interval());
  EXPECT_TRUE(experiment->data().sources(0).has_format());
  EXPECT_TRUE(experiment->model().rope().has_theta());
  // Groups whose absence says something are not made.
  EXPECT_FALSE(experiment->model().has_moe());
  EXPECT_FALSE(experiment->model().has_mla());
  EXPECT_FALSE(experiment->lr_scheduler().has_decay_ratio());
}

TEST(ReadExperiment, DerivesDefaultsFromOtherFields) {
  auto experiment = ReadExperiment(Json(R"("training": {"steps": 300})"));
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  EXPECT_EQ(experiment->model().n_kv_heads(), 16);
  EXPECT_EQ(experiment->model().head_dim(), 16);
  EXPECT_EQ(experiment->lr_scheduler().total_steps(), 300);
  experiment = ReadExperiment(Json(R"("training": {"steps": 300})"), {.overrides = {"training.steps=400"}});
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  EXPECT_EQ(experiment->lr_scheduler().total_steps(), 400);
}

TEST(ReadExperiment, ReportsAllErrorsAtOnce) {
  EXPECT_THAT(Errors(Json(R"("training": {"steps": "8", "stepz": 1}, "optimizer": {"lr": 0})"), {.source_name = "x"}),
              ElementsAre("x: training.steps: \"8\" is a string; expected an integer; write it without quotes",
                          "x: training.stepz: unknown field; did you mean steps?",
                          "x: optimizer.lr: 0 is out of range; it must be above 0 and at most 100"));
}

TEST(ReadExperiment, WantsIntegersWrittenAsIntegers) {
  for (const char* literal : {"8.0", "1e3", "8.5", "1e300", "true", "null", "[8]", "{}"}) {
    EXPECT_EQ(Errors(Json(absl::StrCat(R"("training": {"seq_len": )", literal, "}"))).size(), 1u) << literal;
  }
  EXPECT_EQ(Errors(Json(R"("debug": {"seed": 9007199254740991})")).size(), 0u);
  EXPECT_THAT(Errors(Json(R"("debug": {"seed": 9007199254740992})")), ElementsAre(HasSubstr("beyond 2^53")));
  EXPECT_THAT(Errors(Json(R"("debug": {"seed": 36893488147419103232})")), ElementsAre(HasSubstr("beyond 2^53")));
  EXPECT_THAT(Errors(Json(R"("debug": {"seed": -1})")), ElementsAre(HasSubstr("at least 0")));
}

TEST(ReadExperiment, RefusesDuplicates) {
  EXPECT_THAT(Errors(Json(R"("training": {"steps": 300, "steps": 300})")),
              ElementsAre("training.steps: given more than once"));
}

TEST(ReadExperiment, AcceptsUnsupportedFieldsAtTheirDefaultOnly) {
  EXPECT_THAT(Errors(Json(R"("training": {"dtype": "float32", "enable_cpu_offload": false})")), ElementsAre());
  EXPECT_THAT(Errors(Json(R"("training": {"dtype": "bfloat16"})")), ElementsAre(HasSubstr("not supported yet")));
  EXPECT_THAT(Errors(Json(R"("quantize": {"linear": {"mx": {"filter_fqns": []}}})")), ElementsAre());
  EXPECT_THAT(Errors(Json(R"("quantize": {"linear": {"mx": {"filter_fqns": ["wq"]}}})")),
              ElementsAre(HasSubstr("quantize.linear.mx.filter_fqns: [...] is not supported yet")));
}

TEST(ReadExperiment, SaysWhereAFieldIsWritten) {
  const ReadOptions options = {
      .source_name = "a.jsonnet",
      .jsonnet_sources = {{"a.jsonnet", "base + {\n  optimizer+: {\n    weigth_decay: 0.2 } }"}}};
  EXPECT_THAT(Errors(Json(R"("optimizer": {"weigth_decay": 0.2}, "traning": {})"), options),
              ElementsAre("a.jsonnet:3: optimizer.weigth_decay: unknown field; did you mean weight_decay?",
                          "a.jsonnet: traning: unknown field; did you mean training?"));
}

TEST(Overrides, AreReadLikeTheFile) {
  const auto experiment =
      ReadExperiment(Json(R"("training": {"steps": 300})"),
                     {.overrides = {"training.steps=500", "lr_scheduler.decay_type=cosine", "description=7 of 9",
                                    "optimizer.lr=1e-3", "checkpoint.enable=true", "data.sources.0.corpus=\"other\"",
                                    "data.sources.0.format=jsonl", "debug={\"seed\": 5}"}});
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  EXPECT_EQ(experiment->training().steps(), 500);
  EXPECT_EQ(experiment->lr_scheduler().decay_type(), config::LrScheduler::DECAY_TYPE_COSINE);
  EXPECT_EQ(experiment->description(), "7 of 9");
  EXPECT_EQ(experiment->optimizer().lr(), 1e-3);
  EXPECT_TRUE(experiment->checkpoint().enable());
  EXPECT_EQ(experiment->data().sources(0).corpus(), "other");
  EXPECT_EQ(experiment->debug().seed(), 5u);
}

TEST(Overrides, StayStringsInStringFields) {
  const auto experiment =
      ReadExperiment(Json(R"("activation_checkpoint": {"mode": "selective"})"),
                     {.overrides = {"activation_checkpoint.selective_ac_option=3", "description=true"}});
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  EXPECT_EQ(experiment->activation_checkpoint().selective_ac_option(), "3");
  EXPECT_EQ(experiment->description(), "true");
}

TEST(Overrides, LaterOnesWin) {
  const auto experiment = ReadExperiment(Json(R"("training": {"steps": 300})"),
                                         {.overrides = {"training.steps=400", "training.steps=500"}});
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  EXPECT_EQ(experiment->training().steps(), 500);
}

TEST(Overrides, NameThemselvesInErrors) {
  const ReadOptions options = {.source_name = "x",
                               .overrides = {"optimizer.weigth_decay=0.2", "training.global_batch_size=12", "steps"}};
  EXPECT_THAT(Errors(Json(R"("training": {"steps": 300})"), options),
              ElementsAre("--set optimizer.weigth_decay=0.2: unknown field; did you mean weight_decay?",
                          "--set steps: not of the form path=value, such as training.steps=20",
                          HasSubstr("--set training.global_batch_size=12: 12 is not a multiple of 8")));
}

TEST(CanonicalBytes, DependOnMeaningOnly) {
  const auto bytes = [](std::string_view more) { return CanonicalBytes(*ReadExperiment(Json(more))); };
  const std::string reference = bytes(R"("training": {"steps": 300, "seq_len": 256}, "optimizer": {"lr": 0.001})");
  EXPECT_EQ(bytes(R"("optimizer": {"lr": 1e-3}, "training": {"seq_len": 256, "steps": 300})"), reference);
  EXPECT_EQ(bytes(R"("optimizer": {"lr": 0.00100, "beta1": 0.9}, "training": {"seq_len": 256, "steps": 300})"),
            reference);  // a default, written out
  EXPECT_NE(bytes(R"("training": {"steps": 301, "seq_len": 256}, "optimizer": {"lr": 0.001})"), reference);
}

TEST(ResolvedJson, ReadsBackToTheSameExperiment) {
  const auto experiment = ReadExperiment(Json(
      R"("training": {"steps": 300}, "optimizer": {"lr": 0.00123456789012345678}, "description": "\"quoted\" \u00e9\n")"));
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  const auto again = ReadExperiment(ResolvedJson(*experiment));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(CanonicalBytes(*again), CanonicalBytes(*experiment));
}

// Deletes, doubles, replaces and swaps bytes of valid JSON: whatever comes out is read or refused, and nothing else.
TEST(ReadExperiment, SurvivesMutatedInput) {
  const std::string valid = Json(
      R"("training": {"steps": 300, "max_norm": 1.5}, "checkpoint": {"enable": true, "exclude_from_loading": []})");
  const std::string alphabet = "{}[]\",:-.0123456789eE+\\truefalsn \xc3\xff";
  std::mt19937 random(7);
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string text = valid;
    for (int edit = random() % 4; edit >= 0; --edit) {
      const size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text.erase(at, 1 + random() % 8);
          break;
        case 1:
          text.insert(at, text.substr(random() % text.size(), random() % 40));
          break;
        case 2:
          text[at] = alphabet[random() % alphabet.size()];
          break;
        default:
          std::swap(text[at], text[random() % text.size()]);
      }
      if (text.empty()) text = "{";
    }
    const auto experiment = ReadExperiment(text, {.source_name = "x", .jsonnet_sources = {{"x", text}}});
    refused += !experiment.ok();
    if (experiment.ok()) {
      EXPECT_TRUE(ReadExperiment(ResolvedJson(*experiment)).ok()) << text;
    } else {
      EXPECT_FALSE(experiment.status().message().empty()) << text;
    }
  }
  EXPECT_GT(refused, 3000);
}

TEST(Overrides, SurviveMutatedInput) {
  const std::string alphabet = "{}[]\",:=.0123456789abc traiing.steps";
  std::mt19937 random(11);
  for (int round = 0; round < 2000; ++round) {
    std::string text = random() % 2 ? "training.steps=" : "data.sources.0.corpus=";
    for (int i = 0; i < 8; ++i) text.insert(random() % (text.size() + 1), 1, alphabet[random() % alphabet.size()]);
    ReadExperiment(Json(R"("training": {"steps": 300})"), {.overrides = {text}}).status().IgnoreError();
  }
}

}  // namespace
}  // namespace titan
