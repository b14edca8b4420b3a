// A seed checkpoint, and runs that begin from it.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/resume/trainer_runs.h"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::HasSubstr;

constexpr int kSteps = 4;

constexpr char kExperiment[] = R"({
  "model": {"name": "llama3", "dim": 16, "n_layers": 2, "n_heads": 2, "ffn_hidden_dim": 24, "vocab_size": 64},
  "data": {"sources": [{"corpus": "words", "format": "tokens"}]},
  "training": {"seq_len": 16, "local_batch_size": 2, "global_batch_size": 4, "steps": 4,
               "mixed_precision_param": "float32"},
  "optimizer": {"lr": 0.01},
  "lr_scheduler": {"warmup_steps": 2},
  "checkpoint": {"enable": true},
  "determinism": {"mode": "bitwise"}
})";

std::string Set(const std::string& override) { return "--set=" + override; }

class SeedCheckpointTest : public TrainerRunTest {
 protected:
  SeedCheckpointTest() : TrainerRunTest(kExperiment) {}

  static constexpr char kCreate[] = "checkpoint.create_seed_checkpoint=true";

  std::string From(const std::string& seed) const {
    return Set(absl::StrCat("checkpoint.initial_load_path=", Path(seed), "/checkpoint/step-0"));
  }
  void ExpectSameRun(const std::string& left, const std::string& right) const {
    ExpectSameSteps(left, right, kSteps);
    const std::string last = absl::StrCat("/checkpoint/step-", kSteps);
    ExpectSameFiles(left + last, right + last, ".safetensors");
  }
};

// One process, FSDP, a pipeline: each is, bit for bit, what it is without the file.
TEST_F(SeedCheckpointTest, EveryLayoutBeginsFromItAsItDoesWithout) {
  // Not for the layout that the flags ask for: one process writes it.
  ASSERT_EQ(Run("seed", {Set(kCreate), "--nproc=2"}), 0) << Log();
  EXPECT_THAT(Log(), HasSubstr(Path("seed/checkpoint/step-0")));
  EXPECT_TRUE(Lines("seed/metrics.jsonl").empty());
  const std::vector<std::vector<std::string>> layouts = {
      {}, {"--nproc=2"}, {"--nproc=2", Set("parallelism.pipeline_parallel_degree=2")}};
  for (size_t i = 0; i < layouts.size(); ++i) {
    const std::string without = absl::StrCat("without-", i), with = absl::StrCat("with-", i);
    ASSERT_EQ(Run(without, layouts[i]), 0) << Log();
    std::vector<std::string> flags = layouts[i];
    flags.push_back(From("seed"));
    ASSERT_EQ(Run(with, flags), 0) << Log();
    ExpectSameRun(without, with);
  }
}

TEST_F(SeedCheckpointTest, ARunWithTheSameOutBeginsFromItToo) {
  ASSERT_EQ(Run("straight"), 0) << Log();
  ASSERT_EQ(Run("out", {Set(kCreate)}), 0) << Log();
  ASSERT_EQ(Run("out"), 0) << Log();
  EXPECT_THAT(Log(), HasSubstr("parameters start from " + Path("out/checkpoint/step-0")));
  ExpectSameRun("straight", "out");
}

// It is the file's values that count: those of another seed give another run.
TEST_F(SeedCheckpointTest, HoldsTheParametersOfItsSeed) {
  ASSERT_EQ(Run("straight"), 0) << Log();
  ASSERT_EQ(Run("seed", {Set(kCreate), Set("debug.seed=7")}), 0) << Log();
  ASSERT_EQ(Run("other", {From("seed")}), 0) << Log();
  const auto first_loss = [&](const std::string& run) {
    return nlohmann::json::parse(Lines(run + "/metrics.jsonl").front())["loss"].get<double>();
  };
  EXPECT_NE(first_loss("straight"), first_loss("other"));
}

TEST_F(SeedCheckpointTest, NeverGoesIntoADirectoryThatHoldsARun) {
  ASSERT_EQ(Run("out"), 0) << Log();
  EXPECT_EQ(Run("out", {Set(kCreate)}), 2);
  EXPECT_THAT(Log(), HasSubstr("already holds a run"));
  EXPECT_FALSE(ReadFile(Path("out/checkpoint/step-0/COMMITTED")).ok());
  EXPECT_EQ(Run("dry", {Set(kCreate), "--dry_run"}), 0);
  EXPECT_THAT(Log(), HasSubstr("would write the seed checkpoint " + Path("dry/checkpoint/step-0")));
  EXPECT_FALSE(ReadFile(Path("dry/checkpoint/step-0/COMMITTED")).ok());
}

}  // namespace
}  // namespace titan
