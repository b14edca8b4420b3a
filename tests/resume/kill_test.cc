// A run of two ranks that saves in the background and is killed with SIGKILL at random moments: while it starts,
// between saves, while the state is copied, while shards are written, while the step is committed or an old one
// removed. Each time it must go on from the newest committed step, and in the end be, bit for bit, the run that was
// left alone.
//
// TITAN_KILLS says how often: `bazel test //tests/resume:kill_test --test_env=TITAN_KILLS=200 --test_timeout=3600`.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/resume/trainer_runs.h"
#include "titan/base/file.h"
#include "titan/checkpoint/store.h"

namespace titan {
namespace {

namespace fs = std::filesystem;

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr int kDefaultKills = 6;
// A kill comes at most so many steps after the furthest that the run has come before, and mostly half as many.
constexpr int kMostNewSteps = 12;
constexpr int kStepsPerKill = 16;

// Nearly all of the model is its vocabulary, so that copying and writing the state take as long as computing does.
constexpr char kExperiment[] = R"({
  "model": {"name": "llama3", "dim": 16, "n_layers": 1, "n_heads": 2, "ffn_hidden_dim": 24, "vocab_size": 8192},
  "data": {"sources": [{"corpus": "words", "format": "tokens"}]},
  "training": {"seq_len": 16, "local_batch_size": 1, "global_batch_size": 2, "mixed_precision_param": "float32"},
  "optimizer": {"lr": 0.01},
  "lr_scheduler": {"warmup_steps": 2},
  "checkpoint": {"enable": true, "interval": 3, "keep_latest_k": 2, "async_mode": "async_with_pinned_mem"},
  "metrics": {"enable_tensorboard": false},
  "cluster": {"devices_per_node": 2},
  "determinism": {"mode": "bitwise"}
})";

int NumKills() {
  const char* const text = std::getenv("TITAN_KILLS");
  int kills = kDefaultKills;
  if (text != nullptr && (!absl::SimpleAtoi(text, &kills) || kills < 1)) {
    ADD_FAILURE() << "TITAN_KILLS=" << text << " is no number of kills";
  }
  return kills;
}

// Where a kill has hit the run, by what it has left.
struct Moments {
  int between_saves = 0, writing_shards = 0, committing = 0;
};

class KillTest : public TrainerRunTest {
 protected:
  KillTest() : TrainerRunTest(kExperiment), random_(7) {}

  std::vector<std::string> Flags() const { return {absl::StrCat("--set=training.steps=", steps_)}; }

  // The step of the last whole line in metrics.jsonl; 0 if there is none. Reads its end alone.
  int64_t LastStep() const {
    std::ifstream file(Path("killed/metrics.jsonl"), std::ios::binary | std::ios::ate);
    if (!file) return 0;
    const std::streamoff size = file.tellg(), begin = std::max<std::streamoff>(0, size - 4096);
    std::string tail(static_cast<size_t>(size - begin), '\0');
    file.seekg(begin);
    file.read(tail.data(), static_cast<std::streamsize>(tail.size()));
    const size_t end = tail.rfind('\n');
    if (end == std::string::npos || end == 0) return 0;
    const size_t before = tail.rfind('\n', end - 1);
    const size_t start = before == std::string::npos ? 0 : before + 1;
    const json line = json::parse(tail.substr(start, end - start), nullptr, /*allow_exceptions=*/false);
    return line.is_object() ? line.value("step", int64_t{0}) : 0;
  }

  // What the next start must go on from; 0 for the beginning. Every committed step is whole.
  int64_t NewestCommitted() const {
    const std::vector<StoredStep> steps = ListCheckpoints(Path("killed/checkpoint")).value();
    for (const StoredStep& step : steps) {
      const auto checkpoint = OpenCheckpoint(step.path);
      EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
      if (!checkpoint.ok()) continue;
      const absl::Status verified = checkpoint->Verify();
      EXPECT_TRUE(verified.ok()) << step.path << ": " << verified;
      EXPECT_EQ(checkpoint->step(), step.step);
    }
    return steps.empty() ? 0 : steps.back().step;
  }

  // The folder of a save that is being written; empty if there is none.
  std::string SaveFolder() const {
    std::error_code error;
    for (fs::directory_iterator entry(Path("killed/checkpoint"), error), end; !error && entry != end;
         entry.increment(error)) {
      if (entry->path().extension() == ".tmp") return entry->path();
    }
    return "";
  }

  void CountMoment(Moments& moments) const {
    const std::string folder = SaveFolder();
    if (folder.empty()) {
      ++moments.between_saves;
    } else if (fs::exists(folder + "/part-00000") || fs::exists(folder + "/index.json")) {
      ++moments.committing;
    } else {
      ++moments.writing_shards;
    }
  }

  // The processes of a rank, session after session.
  std::vector<pid_t> Processes(int rank) const {
    std::vector<pid_t> processes;
    const std::string introduction = absl::StrCat("rank ", rank, " of 2: process ");
    for (const std::string& line : Lines(absl::StrCat("killed/logs/rank-", rank, ".log"))) {
      std::string_view rest = line;
      if (absl::ConsumePrefix(&rest, introduction)) processes.push_back(std::atoi(std::string(rest).c_str()));
    }
    return processes;
  }
  // The process of rank 1 that `supervisor` has started; 0 if there is none yet.
  pid_t SecondRank(pid_t supervisor) const {
    const std::vector<pid_t> processes = Processes(1);
    if (processes.empty()) return 0;
    const std::string status = ReadFile(absl::StrCat("/proc/", processes.back(), "/status")).value_or("");
    return absl::StrContains(status, absl::StrCat("PPid:\t", supervisor, "\n")) ? processes.back() : 0;
  }
  // Ranks die with their supervisor, but a moment later.
  void AwaitRanks() const {
    usleep(20000);  // for one that had not said its name yet
    for (const int rank : {0, 1}) {
      const std::vector<pid_t> processes = Processes(rank);
      if (processes.empty()) continue;
      const auto is_alive = [path = absl::StrCat("/proc/", processes.back(), "/stat")] {
        const std::string stat = ReadFile(path).value_or("");
        return absl::StrContains(stat, "(titan_trainer)") && !absl::StrContains(stat, ") Z ");
      };
      for (int polls = 0; polls < 10000 && is_alive(); ++polls) usleep(1000);
      EXPECT_FALSE(is_alive()) << "rank " << rank << ", process " << processes.back();
    }
  }

  // Returns at a random moment of the run; false if it has ended by itself before.
  bool AwaitMoment(pid_t supervisor) {
    const int kind = static_cast<int>(random_() % 5);
    const auto deadline = Clock::now() + std::chrono::milliseconds(random_() % 800);
    const int64_t furthest = LastStep();
    const int64_t target = furthest + 1 + static_cast<int64_t>(random_() % kMostNewSteps);
    const auto is_there = [&] {
      const int64_t step = LastStep();
      // One in five while it starts, or soon after.
      return kind == 0 ? Clock::now() > deadline || step > furthest + kMostNewSteps : step >= target;
    };
    while (!is_there()) {
      if (waitpid(supervisor, nullptr, WNOHANG) != 0) return false;
      usleep(1000);
    }
    // Two in five while a save is being written.
    for (int polls = 0; kind >= 3 && polls < 2000 && SaveFolder().empty(); ++polls) usleep(100);
    usleep(random_() % 4000);
    return true;
  }

  // What run.json says of the session that was killed, if it came so far.
  void ExpectResumedFrom(int64_t newest, int64_t process_before) const {
    const int64_t process = RecordedProcess();
    if (process == 0 || process == process_before) return;
    const json from = Record().at("resumed_from_step");
    EXPECT_EQ(from, newest == 0 ? json() : json(newest));
  }
  json Record() const { return json::parse(ReadFile(Path("killed/run.json")).value_or("{}")); }
  int64_t RecordedProcess() const { return Record().value("pid", int64_t{0}); }

  // All whole lines that the killed run has logged are those of the other.
  void ExpectLinesOf(const std::vector<std::string>& straight) const {
    const std::vector<std::string> lines = Lines("killed/metrics.jsonl");
    for (size_t i = 0; i < lines.size(); ++i) {
      const json line = json::parse(lines[i], nullptr, /*allow_exceptions=*/false);
      if (line.is_discarded() && i + 1 == lines.size()) break;  // was being written
      ASSERT_FALSE(line.is_discarded()) << lines[i];
      const json expected = json::parse(straight.at(i));
      for (const char* key : {"step", "loss", "grad_norm", "lr", "tokens_seen"}) {
        ASSERT_EQ(line.at(key), expected.at(key)) << key << " of step " << i + 1;
      }
    }
  }

  std::mt19937 random_;
  int steps_ = 0;
};

TEST_F(KillTest, GoesOnFromTheNewestCommittedStepBitForBit) {
  const int kills = NumKills();
  steps_ = 60 + kStepsPerKill * kills;
  std::vector<std::string> flags = Flags();
  flags.push_back("--set=checkpoint.interval=1000000");
  ASSERT_EQ(Run("straight", flags), 0) << Log();
  const std::vector<std::string> straight = Lines("straight/metrics.jsonl");
  ASSERT_EQ(straight.size(), static_cast<size_t>(steps_));

  Moments moments;
  for (int i = 0; i < kills && !HasFailure(); ++i) {
    const int64_t newest = NewestCommitted(), process_before = RecordedProcess();
    const std::string log = Path(absl::StrCat("log-", i));
    const pid_t supervisor = Start(Command("killed", Flags()), log);
    ASSERT_TRUE(AwaitMoment(supervisor)) << "kill " << i << ": it ended by itself\n" << ReadFile(log).value_or("");
    const pid_t second = random_() % 2 == 0 ? SecondRank(supervisor) : 0;
    kill(second > 0 ? second : supervisor, SIGKILL);
    const int status = Wait(supervisor);
    AwaitRanks();
    EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CountMoment(moments);
    ExpectResumedFrom(newest, process_before);
    ExpectLinesOf(straight);
    EXPECT_GE(NewestCommitted(), newest);
    if (HasFailure()) ADD_FAILURE() << "at kill " << i << "\n" << ReadFile(log).value_or("");
    fs::remove(log);
  }
  std::cout << kills << " kills: " << moments.between_saves << " between saves, " << moments.writing_shards
            << " while shards were written, " << moments.committing << " while a step was committed" << std::endl;
  // Of a few, none may have hit a save.
  if (kills >= 100) {
    EXPECT_GT(moments.writing_shards + moments.committing, kills / 20);
  }

  ASSERT_EQ(Run("killed", Flags()), 0) << Log();
  ExpectSameSteps("straight", "killed", steps_);
  const std::string last = absl::StrCat("/checkpoint/step-", steps_);
  ExpectSameFiles("straight" + last, "killed" + last, ".safetensors");
  EXPECT_EQ(ListCheckpoints(Path("killed/checkpoint")).value().size(), 2u);
  EXPECT_EQ(SaveFolder(), "");
}

}  // namespace
}  // namespace titan
