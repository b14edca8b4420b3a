// A run that was stopped in any way and started again with the same command is, bit for bit, the run that was not.

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/resume/trainer_runs.h"
#include "titan/base/file.h"

namespace titan {
namespace {

namespace fs = std::filesystem;

constexpr int kSteps = 600;

constexpr char kExperiment[] = R"({
  "model": {"name": "llama3", "dim": 16, "n_layers": 1, "n_heads": 2, "ffn_hidden_dim": 24, "vocab_size": 64},
  "data": {"sources": [{"corpus": "words", "format": "tokens"}]},
  "training": {"seq_len": 16, "local_batch_size": 1, "global_batch_size": 2, "steps": 600,
               "mixed_precision_param": "float32"},
  "optimizer": {"lr": 0.01},
  "lr_scheduler": {"warmup_steps": 2},
  "checkpoint": {"enable": true, "interval": 50, "keep_latest_k": 2},
  "determinism": {"mode": "bitwise"}
})";

class ResumeTest : public TrainerRunTest {
 protected:
  ResumeTest() : TrainerRunTest(kExperiment) {}

  void ExpectSameRun(const std::string& left, const std::string& right) const {
    ExpectSameSteps(left, right, kSteps);
    const std::string last = absl::StrCat("/checkpoint/step-", kSteps);
    ExpectSameFiles(left + last, right + last);
  }
};

TEST_F(ResumeTest, AKilledRunContinuesBitForBit) {
  ASSERT_EQ(Run("straight"), 0) << Log();
  for (const size_t lines : {70, 230}) {
    const int status = RunAndSignal("killed", SIGKILL, lines);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it was done before it could be killed\n" << Log();
  }
  ASSERT_EQ(Run("killed"), 0) << Log();
  ExpectSameRun("straight", "killed");
}

TEST_F(ResumeTest, APreemptedRunSavesItsStepAndContinues) {
  ASSERT_EQ(Run("straight"), 0) << Log();
  const int status = RunAndSignal("preempted", SIGTERM, 70);
  ASSERT_TRUE(WIFEXITED(status)) << Log();
  ASSERT_EQ(WEXITSTATUS(status), 75) << Log();
  const size_t steps = Lines("preempted/metrics.jsonl").size();
  EXPECT_TRUE(fs::exists(Path(absl::StrCat("preempted/checkpoint/step-", steps, "/COMMITTED"))));
  ASSERT_EQ(Run("preempted", {"--resume", "must"}), 0) << Log();
  ExpectSameRun("straight", "preempted");
}

// Rank 1 alone gets the signal.
TEST_F(ResumeTest, ARunOfSeveralRanksStopsForTheSignalToOne) {
  const std::vector<std::string> command =
      Command("two", {"--nproc", "2", "--set", "training.steps=1000000", "--set", "lr_scheduler.decay_ratio=0"});
  const pid_t child = Start(command, Path("log"));
  while (Lines("two/metrics.jsonl").size() < 3 && waitpid(child, nullptr, WNOHANG) == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const std::vector<std::string> lines = Lines("two/logs/rank-1.log");
  ASSERT_FALSE(lines.empty()) << Log();
  const std::string introduction = "rank 1 of 2: process ";
  ASSERT_EQ(lines[0].rfind(introduction, 0), 0u) << lines[0];
  kill(std::stoi(lines[0].substr(introduction.size())), SIGTERM);
  const int status = Wait(child);
  ASSERT_TRUE(WIFEXITED(status)) << Log();
  EXPECT_EQ(WEXITSTATUS(status), 75) << Log();

  const auto record = nlohmann::json::parse(ReadFile(Path("two/run.json")).value());
  const std::string ending = record.at("ending");
  EXPECT_NE(ending.find("stopped by a signal to another rank after step"), std::string::npos) << ending;
  std::vector<std::string> typed = {kTrainer};
  typed.insert(typed.end(), command.begin(), command.end());
  EXPECT_EQ(record.at("command"), typed);
}

// As srun starts them, without a supervisor that looks at the data first.
TEST_F(ResumeTest, DamagedDataStopsAllRanksWithExitCode2) {
  std::string tokens = TestTokens();
  tokens[0] = 1;
  WriteTestFile(Path("bundle/data/words/words.uint16.bin"), tokens);
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(listener, SOMAXCONN), 0);
  ASSERT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const auto start = [&](int rank) {
    std::vector<std::string> identity = {"--nproc=2", "--world_size=2", absl::StrCat("--rank=", rank),
                                         absl::StrCat("--local_rank=", rank),
                                         absl::StrCat("--rendezvous=127.0.0.1:", ntohs(address.sin_port))};
    if (rank == 0) identity.push_back(absl::StrCat("--listen_socket=", listener));
    return Start(Command("damaged", identity), Path(absl::StrCat("log", rank)));
  };
  const pid_t ranks[] = {start(0), start(1)};
  close(listener);
  for (int rank = 0; rank < 2; ++rank) {
    const int status = Wait(ranks[rank]);
    const std::string log = ReadFile(Path(absl::StrCat("log", rank))).value();
    ASSERT_TRUE(WIFEXITED(status)) << log;
    EXPECT_EQ(WEXITSTATUS(status), 2) << log;
    const char* const reason = rank == 0 ? "words.uint16.bin is damaged" : "rank 0 cannot start, and says why";
    EXPECT_NE(log.find(reason), std::string::npos) << log;
  }
  EXPECT_FALSE(fs::exists(Path("damaged")));
}

TEST_F(ResumeTest, OutputIsNeverOverwritten) {
  ASSERT_EQ(Run("once", {"--set", "training.steps=3"}), 0) << Log();
  EXPECT_EQ(Run("once", {"--set", "training.steps=3", "--resume", "never"}), 2);
  EXPECT_NE(Log().find("already holds a run"), std::string::npos) << Log();
  EXPECT_EQ(Lines("once/metrics.jsonl").size(), 3u);
}

TEST_F(ResumeTest, ADryRunWritesNothing) {
  EXPECT_EQ(Run("dry", {"--dry_run"}), 0);
  EXPECT_FALSE(fs::exists(Path("dry")));
  EXPECT_NE(Log().find("tests/run"), std::string::npos) << Log();
}

TEST_F(ResumeTest, BadUsageIsExitCode2) {
  EXPECT_EQ(Run("x", {"--resum", "auto"}), 2);
  EXPECT_EQ(Run("x", {"--set", "training.step=3"}), 2);
  EXPECT_EQ(Run("x", {"--nproc", "0"}), 2);
  EXPECT_FALSE(fs::exists(Path("x")));
}

TEST_F(ResumeTest, ALossThatIsNotFiniteIsExitCode4) {
  EXPECT_EQ(Run("diverged", {"--set", "optimizer.lr=100", "--set", "lr_scheduler.warmup_steps=0", "--set",
                             "optimizer.weight_decay=10", "--set", "training.max_norm=1e30"}),
            4)
      << Log();
  EXPECT_NE(Log().find("rank 0: loss"), std::string::npos) << Log();
  const auto record = nlohmann::json::parse(ReadFile(Path("diverged/run.json")).value());
  EXPECT_NE(record.dump().find("not finite"), std::string::npos);
}

#ifndef __SANITIZE_ADDRESS__  // which takes terabytes of addresses
TEST_F(ResumeTest, OutOfMemoryIsExitCode3) {
  constexpr Limits kMemory = {.memory = rlim_t{1800} << 20};  // a third of it is the trainer itself
  const auto rows = [](int64_t rows) {
    return std::vector<std::string>{"--set", absl::StrCat("training.local_batch_size=", rows), "--set",
                                    absl::StrCat("training.global_batch_size=", rows)};
  };
  ASSERT_EQ(Run("enough", {"--set", "training.steps=2"}, kMemory), 0) << Log();

  EXPECT_EQ(Run("parameters", {"--set", "model.vocab_size=16777216"}, kMemory), 3) << Log();
  EXPECT_NE(Log().find("out of memory in the allocation of parameters"), std::string::npos) << Log();
  EXPECT_NE(Log().find("parallelism.data_parallel_shard_degree"), std::string::npos) << Log();

  EXPECT_EQ(Run("step", rows(1 << 18), kMemory), 3) << Log();
  EXPECT_NE(Log().find("out of memory in step 1"), std::string::npos) << Log();
  EXPECT_NE(Log().find("Lower training.local_batch_size"), std::string::npos) << Log();

  // In the loader's thread.
  std::vector<std::string> large = rows(1 << 20);
  large.insert(large.end(), {"--set", "training.seq_len=1024"});
  EXPECT_EQ(Run("batch", large, kMemory), 3) << Log();
  EXPECT_NE(Log().find("out of memory for the next batch: 1048576 x 1024 tokens"), std::string::npos) << Log();

  for (const char* run : {"parameters", "step", "batch"}) {
    const auto record = nlohmann::json::parse(ReadFile(Path(absl::StrCat(run, "/run.json"))).value());
    EXPECT_EQ(record.at("exit_code"), 3) << run;
  }
}
#endif

}  // namespace
}  // namespace titan
