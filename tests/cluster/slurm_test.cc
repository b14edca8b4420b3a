// The trainer under a real Slurm, with 2 machines x 2 ranks. SLURM_CONF names the cluster; without it nothing is
// tested.

#include <stdlib.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launchers/slurm/job_script.h"
#include "nlohmann/json.hpp"
#include "tests/resume/trainer_runs.h"
#include "titan/base/file.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"

namespace titan {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr char kExperiment[] = R"({
  "model": {"name": "llama3", "dim": 16, "n_layers": 2, "n_heads": 2, "ffn_hidden_dim": 24, "vocab_size": 64},
  "data": {"sources": [{"corpus": "words", "format": "tokens"}]},
  "training": {"seq_len": 16, "local_batch_size": 1, "global_batch_size": 4, "steps": 40,
               "mixed_precision_param": "float32"},
  "optimizer": {"lr": 0.01},
  "lr_scheduler": {"warmup_steps": 2},
  "metrics": {"log_freq": 1},
  "checkpoint": {"enable": true, "interval": 10},
  "cluster": {"num_nodes": 2, "devices_per_node": 2}
})";

// A bundle of the trainer as it was built here.
void WriteBundle(const std::string& bundle) {
  WriteTestBundle(bundle, kExperiment);
  fs::create_directories(bundle + "/bin");
  fs::create_directories(bundle + "/lib");  // nothing in it: the trainer knows where its libraries were built
  fs::create_symlink(fs::canonical(kTrainer), bundle + "/bin/titan_trainer");
  fs::copy(fs::canonical("launchers/run.sh"), bundle + "/run");
}

class SlurmTest : public testing::Test {
 protected:
  void SetUp() override {
    if (getenv("SLURM_CONF") == nullptr) {
      GTEST_SKIP() << "no Slurm: start this with bazel test --test_env=SLURM_CONF=... (tests/cluster/README.md)";
    }
    directory_ = absl::StrCat(getenv("TEST_TMPDIR"), "/", testing::UnitTest::GetInstance()->current_test_info()->name(),
                              " it's");
    fs::remove_all(directory_);
    WriteBundle(directory_ + "/bundle");
    const absl::StatusOr<config::Experiment> experiment = ReadExperiment(kExperiment);
    ASSERT_TRUE(experiment.ok()) << experiment.status();
    WriteTestFile(directory_ + "/job", JobScript("tests/cluster", *experiment));
  }

  void TearDown() override {
    if (!job_.empty()) Shell("scancel " + job_);
    if (HasFailure() && !directory_.empty()) Shell("tail -n 30 " + ShellQuoted(directory_) + "/*/logs/*.log >&2");
  }

  // What a command prints.
  static std::string Shell(const std::string& command) {
    std::string output;
    FILE* const pipe = popen(command.c_str(), "r");
    if (pipe == nullptr) return output;
    char buffer[4096];
    for (size_t size; (size = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) output.append(buffer, size);
    pclose(pipe);
    return output;
  }

  void Submit(const std::string& out, const std::string& flags = "") {
    fs::create_directories(directory_ + "/" + out + "/logs");
    const std::string words = absl::StrCat(ShellQuoted(directory_ + "/job"), " ", ShellQuoted(directory_ + "/bundle"),
                                           " ", ShellQuoted(directory_ + "/" + out), " ", flags);
    job_ = Shell(absl::StrCat("sbatch --parsable --export=ALL,OMP_NUM_THREADS=1 --output=",
                              ShellQuoted(directory_ + "/" + out + "/logs/slurm.log"), " ", words));
    job_ = job_.substr(0, job_.find('\n'));
    ASSERT_FALSE(job_.empty());
  }

  std::string JobField(const std::string& name) const {
    for (const auto word : absl::StrSplit(Shell("scontrol --oneliner show job " + job_), ' ')) {
      const std::pair<std::string, std::string> field = absl::StrSplit(word, absl::MaxSplits('=', 1));
      if (field.first == name) return field.second;
    }
    return "";
  }

  bool HasEnded() const {
    const std::string state = JobField("JobState");
    return state == "COMPLETED" || state == "FAILED" || state == "CANCELLED" || state == "TIMEOUT";
  }

  // Until the job has ended, or for too long.
  bool WaitFor(const std::function<bool()>& condition) const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (!condition()) {
      if (HasEnded() || std::chrono::steady_clock::now() > end) return condition();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    return true;
  }

  // The job's exit code, as Slurm shows it.
  std::string WaitForTheEnd() {
    EXPECT_TRUE(WaitFor([this] { return HasEnded(); })) << "still " << JobField("JobState");
    return JobField("ExitCode");
  }

  // The steps that are in metrics.jsonl, and the last loss.
  std::vector<int64_t> Steps(const std::string& out, double* last_loss = nullptr) const {
    std::ifstream file(directory_ + "/" + out + "/metrics.jsonl");
    std::vector<int64_t> steps;
    for (std::string line; std::getline(file, line);) {
      const nlohmann::json metrics = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (metrics.is_discarded()) continue;  // being written
      steps.push_back(metrics["step"].get<int64_t>());
      if (last_loss != nullptr) *last_loss = metrics["loss"].get<double>();
    }
    return steps;
  }
  std::string Log(const std::string& out, const std::string& name) const {
    return ReadFile(absl::StrCat(directory_, "/", out, "/logs/", name, ".log")).value_or("");
  }

  std::string directory_;
  std::string job_;
};

TEST_F(SlurmTest, TwoMachinesTrainAsOneWould) {
  Submit("two");
  EXPECT_EQ(WaitForTheEnd(), "0:0");
  double loss = 0;
  EXPECT_EQ(Steps("two", &loss).size(), 40u);
  EXPECT_THAT(Log("two", "rank-0"), HasSubstr("dp_shard 4"));
  EXPECT_THAT(Log("two", "rank-3"), HasSubstr("rank 3 of 4"));

  const std::string command =
      absl::StrCat("OMP_NUM_THREADS=1 ", ShellQuoted(directory_ + "/bundle/run"), " --out ",
                   ShellQuoted(directory_ + "/one"), " --nproc 1 --set cluster.num_nodes=1 >&2");
  ASSERT_EQ(system(command.c_str()), 0);
  double alone = 0;
  EXPECT_EQ(Steps("one", &alone).size(), 40u);
  EXPECT_NEAR(loss, alone, 1e-4 * alone);
}

TEST_F(SlurmTest, APreemptedJobIsQueuedAgainAndContinues) {
  const std::string flags = "--set training.steps=2000 --set checkpoint.interval=1000";
  Submit("out", flags);
  ASSERT_TRUE(WaitFor([this] { return Steps("out").size() >= 5; }));
  Shell("scancel --signal=TERM " + job_);
  ASSERT_TRUE(WaitFor([this] { return JobField("Restarts") == "1"; }));
  const size_t before = Steps("out").size();
  EXPECT_THAT(Log("out", "slurm"), HasSubstr("ended with exit code 75"));
  ASSERT_TRUE(WaitFor([&] { return Steps("out").size() > before; })) << Log("out", "rank-0");
  EXPECT_THAT(Log("out", "rank-0"), HasSubstr(absl::StrCat("continues after step ", before)));
  const std::vector<int64_t> steps = Steps("out");
  for (size_t i = 0; i < steps.size(); ++i) ASSERT_EQ(steps[i], static_cast<int64_t>(i + 1));
}

// The others end by themselves, and say who is lost: srun would not end them before its 60 s are over.
TEST_F(SlurmTest, AKilledRankEndsTheOthersWhichNameIt) {
  Submit("out", "--set training.steps=100000 --set checkpoint.enable=false");
  ASSERT_TRUE(WaitFor([this] { return Steps("out").size() >= 5; })) << Log("out", "rank-0");
  // "rank 2 of 4: process 123 on n2, ...": as the machine itself numbers its processes.
  const std::vector<std::string> words = absl::StrSplit(Log("out", "rank-2"), absl::ByAnyChar(" ,"));
  const auto after = [&](const std::string& word) { return *(std::find(words.begin(), words.end(), word) + 1); };
  const auto killed = std::chrono::steady_clock::now();
  Shell(absl::StrCat("srun --mpi=none --overlap --jobid=", job_, " --nodes=1 --ntasks=1 --nodelist=", after("on"),
                     " kill -9 ", after("process"), " 2>&1"));
  EXPECT_NE(WaitForTheEnd(), "0:0");
  std::cerr << "ended " << std::chrono::duration<double>(std::chrono::steady_clock::now() - killed).count()
            << " s after the kill\n";
  for (const char* rank : {"rank-0", "rank-1", "rank-3"}) {
    EXPECT_THAT(Log("out", rank), HasSubstr("rank 2: it died")) << rank;
  }
  EXPECT_EQ(nlohmann::json::parse(ReadFile(directory_ + "/out/run.json").value()).at("exit_code"), 5);
  EXPECT_THAT(Log("out", "slurm"), AllOf(HasSubstr("Exited with exit code 5"), HasSubstr("Killed")));
}

TEST_F(SlurmTest, AWrongNumberOfMachinesIsRefused) {
  Submit("out", "--set cluster.num_nodes=1");
  EXPECT_EQ(WaitForTheEnd(), "2:0");
  EXPECT_THAT(Log("out", "rank-0"), HasSubstr("but 4 were started"));
}

}  // namespace
}  // namespace titan
