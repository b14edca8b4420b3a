// Whole runs that validate: training is, bit for bit, the run that does not; and what they report of it.

#include <signal.h>
#include <sys/wait.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/resume/trainer_runs.h"
#include "titan/base/file.h"

namespace titan {
namespace {

using nlohmann::json;

constexpr char kExperiment[] = R"({
  "model": {"name": "llama3", "dim": 16, "n_layers": 2, "n_heads": 2, "ffn_hidden_dim": 24, "vocab_size": 64},
  "data": {"sources": [{"corpus": "words", "format": "tokens"}]},
  "training": {"seq_len": 16, "local_batch_size": 1, "global_batch_size": 2, "steps": 250,
               "mixed_precision_param": "float32"},
  "optimizer": {"lr": 0.01},
  "lr_scheduler": {"warmup_steps": 2},
  "checkpoint": {"enable": true, "interval": 50},
  "validation": {"enable": true, "freq": 100, "sources": [{"corpus": "words", "format": "tokens"}],
                 "local_batch_size": 7, "seq_len": 24},
  "metrics": {"enable_spans": true},
  "determinism": {"mode": "bitwise"}
})";

class ValidationTest : public TrainerRunTest {
 protected:
  ValidationTest() : TrainerRunTest(kExperiment) {}

  // The lines of metrics.jsonl that are of steps, or of validations; without what a clock or the memory says.
  std::vector<json> Logged(const std::string& out, bool validations) const {
    std::vector<json> lines;
    for (const std::string& text : Lines(out + "/metrics.jsonl")) {
      const json line = json::parse(text);
      if (line.contains("validation_loss") != validations) continue;
      json kept;
      for (const char* key :
           {"step", "loss", "grad_norm", "lr", "tokens_seen", "validation_loss", "validation_tokens"}) {
        if (line.contains(key)) kept[key] = line[key];
      }
      lines.push_back(kept);
    }
    return lines;
  }

  // The spans of a rank, of all sessions. The file is an array without its end.
  std::vector<json> Spans(const std::string& out, int rank) const {
    const std::string text = ReadFile(Path(absl::StrCat(out, "/spans/rank-", rank, ".json"))).value();
    std::vector<json> spans;
    for (const json& event : json::parse(text.substr(0, text.rfind(',')) + "]")) {
      if (event["ph"] == "X") spans.push_back(event);
    }
    return spans;
  }
};

TEST_F(ValidationTest, TrainingDoesNotNotice) {
  ASSERT_EQ(Run("with", {"--set", "metrics.prometheus_port=0"}), 0) << Log();
  EXPECT_NE(Log().find("metrics for Prometheus at http://127.0.0.1:"), std::string::npos);
  ASSERT_EQ(Run("without", {"--set", "validation.enable=false", "--set", "metrics.enable_spans=false"}), 0) << Log();
  EXPECT_EQ(Logged("with", false).size(), 250u);
  EXPECT_EQ(Logged("with", false), Logged("without", false));
  ExpectSameFiles("with/checkpoint/step-250", "without/checkpoint/step-250", ".safetensors");

  EXPECT_TRUE(Logged("without", true).empty());
  const std::vector<json> validations = Logged("with", true);
  ASSERT_EQ(validations.size(), 4u);
  const int64_t steps[] = {1, 100, 200, 250};
  for (size_t i = 0; i < validations.size(); ++i) {
    EXPECT_EQ(validations[i]["step"], steps[i]);
    EXPECT_EQ(validations[i]["validation_tokens"], 2999) << "each label once";
  }
  EXPECT_LT(validations[3]["validation_loss"], validations[0]["validation_loss"].get<double>() - 0.1);
  const std::string report = ReadFile(Path("with/report.html")).value();
  EXPECT_NE(report.find("Validation loss"), std::string::npos);
  EXPECT_NE(Log().find("validate step: 250"), std::string::npos);
}

TEST_F(ValidationTest, SpansOfAllRanksTellWhatTheyDid) {
  const std::vector<std::string> flags = {
      "--set", "training.steps=60", "--set", "checkpoint.async_mode=async", "--nproc", "2"};
  ASSERT_EQ(Run("two", flags), 0) << Log();
  for (int rank = 0; rank < 2; ++rank) {
    std::map<std::string, int64_t> counts;
    for (const json& span : Spans("two", rank)) {
      EXPECT_EQ(span["pid"], rank);
      ++counts[span["name"]];
    }
    for (const char* name :
         {"wait for data", "make batch", "forward", "backward", "reduce gradients", "wait for device", "optimizer"}) {
      EXPECT_GE(counts[name], 60) << name;
    }
    const std::map<std::string, int64_t> expected = {
        {"step", 60}, {"validation", 2}, {"save", 2}, {"stage checkpoint", 2}, {"write checkpoint", 2}};
    for (const auto& [name, count] : expected) EXPECT_EQ(counts[name], count) << name;
  }
}

TEST_F(ValidationTest, AKilledRunReportsTheSameValidations) {
  ASSERT_EQ(Run("straight"), 0) << Log();
  ASSERT_TRUE(WIFSIGNALED(RunAndSignal("killed", SIGKILL, 120))) << Log();
  std::set<int64_t> steps;
  const auto add_steps = [&] {
    for (const json& span : Spans("killed", 0)) {
      if (span["name"] == "step") steps.insert(span["args"]["number"].get<int64_t>());
    }
  };
  add_steps();
  EXPECT_GE(steps.size(), 110u) << "what a kill leaves of the spans";
  ASSERT_EQ(Run("killed"), 0) << Log();
  add_steps();
  EXPECT_EQ(steps.size(), 250u);
  EXPECT_EQ(Logged("killed", true), Logged("straight", true));
  EXPECT_EQ(Logged("killed", false), Logged("straight", false));
}

// The corpus ends in the midst: then that is the end, which is validated.
TEST_F(ValidationTest, TheEndOfTheDataIsValidated) {
  ASSERT_EQ(Run("short", {"--set", "data.repeat=false"}), 0) << Log();
  const std::vector<json> validations = Logged("short", true);
  ASSERT_EQ(validations.size(), 2u);
  EXPECT_EQ(validations.back()["step"], Logged("short", false).back()["step"]);
}

TEST_F(ValidationTest, SeveralRanksReportTheSame) {
  const std::vector<std::string> few = {"--set", "training.steps=20", "--set", "validation.freq=10"};
  ASSERT_EQ(Run("one", few), 0) << Log();
  std::vector<std::string> two = few;
  two.insert(two.end(), {"--nproc", "2"});
  ASSERT_EQ(Run("two", two), 0) << Log();
  std::vector<std::string> stages = two;
  stages.insert(stages.end(),
                {"--set", "parallelism.pipeline_parallel_degree=2", "--set", "training.local_batch_size=2"});
  ASSERT_EQ(Run("stages", stages), 0) << Log();
  const std::vector<json> expected = Logged("one", true);
  ASSERT_EQ(expected.size(), 3u);
  for (const char* out : {"two", "stages"}) {
    const std::vector<json> validations = Logged(out, true);
    ASSERT_EQ(validations.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(validations[i]["validation_tokens"], expected[i]["validation_tokens"]) << out;
      const double loss = expected[i]["validation_loss"];
      EXPECT_NEAR(validations[i]["validation_loss"].get<double>(), loss, 1e-5 * loss) << out;
    }
  }
}

}  // namespace
}  // namespace titan
