// Runs of several ranks that save in the background: on a disk that is full, continued by another layout or refused.
// Those that are killed: kill_test.cc.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
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

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

constexpr char kExperiment[] = R"({
  "model": {"name": "llama3", "dim": 16, "n_layers": 1, "n_heads": 2, "ffn_hidden_dim": 24, "vocab_size": 64},
  "data": {"sources": [{"corpus": "words", "format": "tokens"}]},
  "training": {"seq_len": 16, "local_batch_size": 1, "global_batch_size": 2, "steps": 240,
               "mixed_precision_param": "float32"},
  "optimizer": {"lr": 0.01},
  "lr_scheduler": {"warmup_steps": 2},
  "checkpoint": {"enable": true, "interval": 3, "keep_latest_k": 2, "async_mode": "async_with_pinned_mem"},
  "cluster": {"devices_per_node": 2},
  "determinism": {"mode": "bitwise"}
})";

std::string Set(const std::string& override) { return "--set=" + override; }

class AsyncCheckpointTest : public TrainerRunTest {
 protected:
  AsyncCheckpointTest() : TrainerRunTest(kExperiment) {}

  std::vector<std::string> CheckpointsOf(const std::string& out) const {
    std::vector<std::string> names;
    if (!fs::exists(Path(out + "/checkpoint"))) return names;
    for (const auto& entry : fs::directory_iterator(Path(out + "/checkpoint"))) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
};

TEST_F(AsyncCheckpointTest, AFullDiskIsSurvivedAndTheLastSaveMatters) {
  const Limits full = {.file_size = 1 << 20};
  const std::string large = Set("model.vocab_size=16384");
  ASSERT_EQ(Run("out", {large, Set("training.steps=6")}), 0) << Log();
  EXPECT_THAT(CheckpointsOf("out"), ElementsAre("step-3", "step-6"));
  // No file of a megabyte can be written: training goes on, what there is stays.
  const std::vector<std::string> longer = {large, Set("training.steps=13"), "--allow_digest_change"};
  EXPECT_EQ(Run("out", longer, full), 1) << Log();
  EXPECT_THAT(Log(), AllOf(HasSubstr("WARNING: checkpoint failed (1 so far): step 9 was not saved"),
                           HasSubstr("ulimit -f"), HasSubstr("The newest one is of step 6"),
                           HasSubstr("the last checkpoint, of step 13, could not be written")));
  const std::vector<std::string> lines = Lines("out/metrics.jsonl");
  ASSERT_EQ(lines.size(), 13u);
  EXPECT_GE(nlohmann::json::parse(lines.back()).at("failed_saves"), 1);
  EXPECT_EQ(nlohmann::json::parse(lines[6]).count("failed_saves"), 0u);
  ASSERT_EQ(Run("out", longer), 0) << Log();
  EXPECT_THAT(Log(), HasSubstr("continues after step 6"));
  EXPECT_THAT(CheckpointsOf("out"), ElementsAre("step-12", "step-13"));
}

TEST_F(AsyncCheckpointTest, AnotherExperimentIsRefusedUnlessItIsWanted) {
  ASSERT_EQ(Run("out", {Set("training.steps=5")}), 0) << Log();
  EXPECT_EQ(Run("out", {Set("training.steps=7")}), 2) << Log();
  EXPECT_THAT(Log(), AllOf(HasSubstr("was saved by another run"), HasSubstr("training.steps: 5 there, 7 here"),
                           HasSubstr("--allow_digest_change")));
  const auto digest = [&] { return nlohmann::json::parse(ReadFile(Path("out/run.json")).value()).at("digest"); };
  const std::string first = digest();
  // With another layout, too.
  ASSERT_EQ(Run("out", {Set("training.steps=7"), "--nproc=1", "--allow_digest_change"}), 0) << Log();
  EXPECT_THAT(Log(), AllOf(HasSubstr("changed since the checkpoint: training.steps: 5 -> 7"),
                           HasSubstr("continues after step 5, from " + Path("out/checkpoint/step-5") +
                                     ", saved by run id " + first)));
  EXPECT_NE(digest(), first);
  const auto lineage = nlohmann::json::parse(ReadFile(Path("out/run.json")).value()).at("lineage");
  ASSERT_EQ(lineage.size(), 1u);
  EXPECT_EQ(lineage[0].at("step"), 5);
  EXPECT_EQ(lineage[0].at("digest"), first);
  EXPECT_EQ(Lines("out/metrics.jsonl").size(), 7u);
}

TEST_F(AsyncCheckpointTest, APreemptedRunFinishesItsSave) {
  const pid_t supervisor = Start(Command("out"), Path("log"));
  while (Lines("out/metrics.jsonl").size() < 20 && waitpid(supervisor, nullptr, WNOHANG) == 0) usleep(2000);
  kill(supervisor, SIGTERM);
  const int status = Wait(supervisor);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 75) << Log();
  const std::string newest = absl::StrCat("step-", Lines("out/metrics.jsonl").size());
  EXPECT_EQ(CheckpointsOf("out").size(), 2u);
  EXPECT_TRUE(fs::exists(Path("out/checkpoint/" + newest + "/COMMITTED"))) << Log();
}

}  // namespace
}  // namespace titan
