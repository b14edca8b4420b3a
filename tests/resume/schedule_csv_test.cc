// A pipeline that runs the schedule of a file: of the bundle, or of the user's.

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/resume/trainer_runs.h"

namespace titan {
namespace {

using ::testing::HasSubstr;

constexpr int kSteps = 4;

constexpr char kExperiment[] = R"({
  "model": {"name": "llama3", "dim": 16, "n_layers": 2, "n_heads": 2, "ffn_hidden_dim": 24, "vocab_size": 64},
  "data": {"sources": [{"corpus": "words", "format": "tokens"}]},
  "training": {"seq_len": 16, "local_batch_size": 4, "steps": 4, "mixed_precision_param": "float32"},
  "optimizer": {"lr": 0.01},
  "lr_scheduler": {"warmup_steps": 2},
  "checkpoint": {"enable": true},
  "parallelism": {"pipeline_parallel_degree": 2},
  "cluster": {"devices_per_node": 2},
  "determinism": {"mode": "bitwise"}
})";

constexpr char k1F1B[] =
    "0F0,0F1,,,0B0,,0F2,0B1,,0F3,0B2,,,0B3\n"
    ",1F0,1B0,,1F1,1B1,,1F2,1B2,,1F3,1B3\n";
// The last microbatch first: another order of summation.
constexpr char kBackToFront[] =
    "0F3,0F2,0F1,0F0,0B3,0B2,0B1,0B0\n"
    "1F3,1B3,1F2,1B2,1F1,1B1,1F0,1B0\n";
constexpr char kDeadlock[] =
    "0F0,0B0,0F1,0B1,0F2,0B2,0F3,0B3\n"
    "1F1,1B1,1F0,1B0,1F2,1B2,1F3,1B3\n";

std::string Csv(const std::string& name) { return "parallelism.pipeline_parallel_schedule_csv=" + name; }

class ScheduleCsvTest : public TrainerRunTest {
 protected:
  ScheduleCsvTest() : TrainerRunTest(kExperiment, {{"files/1f1b.csv", k1F1B}, {"files/deadlock.csv", kDeadlock}}) {}

  std::string Checkpoint(const std::string& run) const { return absl::StrCat(run, "/checkpoint/step-", kSteps); }
};

TEST_F(ScheduleCsvTest, TheOrderOf1F1BGivesTheBitsOf1F1B) {
  WriteTestFile(Path("mine.csv"), k1F1B);
  ASSERT_EQ(Run("named"), 0) << Log();
  ASSERT_EQ(Run("bundle", {"--set", Csv("1f1b.csv")}), 0) << Log();
  ASSERT_EQ(Run("mine", {"--set", Csv(Path("mine.csv"))}), 0) << Log();
  for (const char* run : {"bundle", "mine"}) {
    ExpectSameSteps("named", run, kSteps);
    ExpectSameFiles(Checkpoint("named"), Checkpoint(run), ".safetensors");
  }
}

// The file is what runs, not the schedule that the configuration names.
TEST_F(ScheduleCsvTest, AnotherOrderGivesOtherBits) {
  WriteTestFile(Path("mine.csv"), kBackToFront);
  ASSERT_EQ(Run("named"), 0) << Log();
  ASSERT_EQ(Run("mine", {"--set", Csv(Path("mine.csv"))}), 0) << Log();
  const auto checksums = [&](const std::string& run) { return Lines(Checkpoint(run) + "/index.json"); };
  EXPECT_NE(checksums("named"), checksums("mine"));
}

TEST_F(ScheduleCsvTest, WhatCannotRunIsRefusedBeforeAnythingStarts) {
  EXPECT_EQ(Run("deadlock", {"--set", Csv("deadlock.csv")}), 2);
  EXPECT_THAT(Log(), HasSubstr("parallelism.pipeline_parallel_schedule_csv: deadlock.csv: pipeline schedule CSV: "
                               "deadlock: rank 0, action 2 (0B0) waits for rank 1, action 4 (1B0)"));
  WriteTestFile(Path("short.csv"), "0F0,0B0\n1F0,1B0\n");
  EXPECT_EQ(Run("short", {"--set", Csv(Path("short.csv"))}), 2);
  EXPECT_THAT(Log(), HasSubstr("the forward 0F1 is missing on rank 0"));
  EXPECT_EQ(Run("unknown", {"--set", Csv("other.csv")}), 2);
  EXPECT_THAT(Log(), HasSubstr("the bundle has no files/other.csv"));
  EXPECT_EQ(Run("nowhere", {"--set", Csv(Path("nowhere.csv"))}), 2);
  EXPECT_THAT(Log(), HasSubstr(Path("nowhere.csv")));
  for (const char* run : {"deadlock", "short", "unknown", "nowhere"}) {
    EXPECT_TRUE(Lines(absl::StrCat(run, "/metrics.jsonl")).empty()) << run;
  }
}

}  // namespace
}  // namespace titan
