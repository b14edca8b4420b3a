// The supervisor with real processes (fake_trainer.cc) that end in every way that ranks do.

#include "launchers/local/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launchers/local/rank_output.h"
#include "titan/base/file.h"

namespace titan {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr auto kPatience = std::chrono::seconds(60);

std::string Read(const std::string& path) { return ReadFile(path).value_or(""); }

template <typename Condition>
bool WaitFor(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// Whether a process runs; a zombie that nobody has waited for does not.
bool Runs(pid_t pid) {
  const std::string status = Read(absl::StrCat("/proc/", pid, "/stat"));
  const size_t name_end = status.rfind(") ");
  return name_end != std::string::npos && status[name_end + 2] != 'Z' && status[name_end + 2] != 'X';
}

class SupervisorTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = absl::StrCat(testing::TempDir(), "/supervisor-XXXXXX");
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    out_ = pattern;
  }
  void TearDown() override {
    if (supervisor_ > 0) {
      kill(supervisor_, SIGKILL);
      waitpid(supervisor_, nullptr, 0);
    }
  }

  // What rank `rank` does after it has said who it is.
  void Do(int rank, const std::string& script) { std::ofstream(absl::StrCat(out_, "/do-", rank)) << script; }

  void Start(int num_ranks, const std::vector<std::string>& flags = {}) {
    num_ranks_ = num_ranks;
    std::vector<std::string> command = {"fake_trainer", "--out", out_, "--nproc", absl::StrCat(num_ranks)};
    command.insert(command.end(), flags.begin(), flags.end());
    supervisor_ = fork();
    ASSERT_GE(supervisor_, 0);
    if (supervisor_ != 0) return;
    dup2(open((out_ + "/stdout").c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
    dup2(open((out_ + "/stderr").c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
    std::vector<char*> arguments;
    for (std::string& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    execv("launchers/local/fake_trainer", arguments.data());
    _exit(99);
  }

  // The exit code of the supervisor, after all of its ranks have ended; minus the signal that killed it.
  int Wait() {
    int status = 0;
    const bool ended = WaitFor([&] { return waitpid(supervisor_, &status, WNOHANG) == supervisor_; });
    EXPECT_TRUE(ended) << "the supervisor still runs";
    if (!ended) return -1;
    supervisor_ = 0;
    EXPECT_TRUE(WaitFor([&] { return !AnyRankRuns(); })) << "a rank survived its supervisor";
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  int Run(int num_ranks, const std::vector<std::string>& flags = {}) {
    Start(num_ranks, flags);
    return Wait();
  }

  pid_t PidOf(int rank) const {
    int pid = 0;
    return absl::SimpleAtoi(Read(absl::StrCat(out_, "/pid-", rank)), &pid) ? pid : 0;
  }
  bool AnyRankRuns() const {
    for (int rank = 0; rank < num_ranks_; ++rank) {
      if (PidOf(rank) > 0 && Runs(PidOf(rank))) return true;
    }
    return false;
  }
  bool WaitUntilAllDid(const std::string& word) const {
    return WaitFor([&] {
      for (int rank = 0; rank < num_ranks_; ++rank) {
        if (!std::filesystem::exists(absl::StrCat(out_, "/did-", rank, "-", word))) return false;
      }
      return true;
    });
  }
  std::string Output() const { return Read(out_ + "/stdout"); }
  std::string Errors() const { return Read(out_ + "/stderr"); }
  std::string Log(int rank) const { return Read(absl::StrCat(out_, "/rank-", rank, ".log")); }

  std::string out_;
  int num_ranks_ = 0;
  pid_t supervisor_ = 0;
};

TEST_F(SupervisorTest, EveryRankLearnsWhoItIs) {
  setenv("OMP_NUM_THREADS", "3", 1);
  EXPECT_EQ(Run(3), 0);
  unsetenv("OMP_NUM_THREADS");
  EXPECT_EQ(Output(), "no terminal\nrank 0 of 3, local rank 0, listening, at loopback, 3 threads\n");
  EXPECT_THAT(Log(2), HasSubstr("rank 2 of 3, local rank 2, calling, at loopback, 3 threads\n"));
}

TEST_F(SupervisorTest, SharesTheCoresOut) {
  unsetenv("OMP_NUM_THREADS");
  EXPECT_EQ(Run(4), 0);
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  EXPECT_THAT(Output(), HasSubstr(absl::StrCat(std::max(1, cores / 4), " threads")));
}

TEST_F(SupervisorTest, ShowsRankZeroAndTheErrorsOfOthers) {
  Do(0, "lines 2");
  Do(1, "lines 2");
  EXPECT_EQ(Run(2), 0);
  EXPECT_THAT(Output(), HasSubstr("line 0\nline 1\n"));
  EXPECT_THAT(Output(), Not(HasSubstr("rank 1")));
  EXPECT_THAT(Errors(), HasSubstr("warning of rank 0\n"));
  EXPECT_THAT(Errors(), Not(HasSubstr("[rank 0]")));
  EXPECT_THAT(Errors(), HasSubstr("[rank 1] warning of rank 1\n"));
  // Logs hold both streams of each rank once.
  for (const int rank : {0, 1}) {
    EXPECT_THAT(Log(rank), HasSubstr(absl::StrCat("warning of rank ", rank, "\n")));
    EXPECT_THAT(Log(rank), HasSubstr("line 0\nline 1\n"));
    EXPECT_THAT(Log(rank), Not(HasSubstr("[rank")));
    EXPECT_EQ(Log(rank).find("line 0"), Log(rank).rfind("line 0"));
  }
}

TEST_F(SupervisorTest, ShowsTheRanksThatAreAskedFor) {
  EXPECT_EQ(Run(3, {"--log_ranks", "0,2"}), 0);
  EXPECT_THAT(Output(), HasSubstr("[rank 0] rank 0 of 3"));
  EXPECT_THAT(Output(), HasSubstr("[rank 2] rank 2 of 3"));
  EXPECT_THAT(Output(), Not(HasSubstr("rank 1 of 3")));
  EXPECT_EQ(Run(2, {"--log_ranks", "all"}), 0);
  EXPECT_THAT(Output(), HasSubstr("[rank 1] rank 1 of 2"));
}

TEST_F(SupervisorTest, ALogGrowsFromSessionToSession) {
  EXPECT_EQ(Run(1), 0);
  const std::string first = Log(0);
  EXPECT_EQ(Run(1), 0);
  EXPECT_EQ(Log(0).substr(0, first.size()), first);
  EXPECT_GT(Log(0).size(), first.size());
}

TEST_F(SupervisorTest, NamesTheFirstFailure) {
  Do(0, "stop 5 wait");
  Do(1, "lines 20 exit 3");
  Do(2, "stop 5 wait");
  EXPECT_EQ(Run(3), 3);
  EXPECT_THAT(Errors(), HasSubstr("rank 1 of 3 was the first to fail: it ended with exit code 3 (out of memory)"));
  EXPECT_THAT(Errors(), HasSubstr("rank-1.log):"));
  EXPECT_THAT(Errors(), HasSubstr("\n  line 19\n"));
  EXPECT_THAT(Errors(), Not(HasSubstr("line 1\n"))) << "only the last lines";
}

TEST_F(SupervisorTest, ALostPeerIsAConsequence) {
  Do(0, "exit 5");
  Do(1, "pause 300 exit 4");  // the cause, though slower to end than those that it let down
  Do(2, "exit 5");
  EXPECT_EQ(Run(3), 4);
  EXPECT_THAT(Errors(), HasSubstr("rank 1 of 3 was the first to fail"));
  EXPECT_THAT(Errors(), HasSubstr("ranks 0, 2: ended with exit code 5 (a peer was lost)"));
}

TEST_F(SupervisorTest, AKilledRankMayBeStartedAgain) {
  for (const int rank : {0, 1, 2}) Do(rank, "stop 5 lines 1 wait");
  Start(3);
  ASSERT_TRUE(WaitUntilAllDid("lines"));
  ASSERT_EQ(kill(PidOf(2), SIGKILL), 0);
  EXPECT_EQ(Wait(), 5);
  EXPECT_THAT(Errors(), HasSubstr("rank 2 of 3 was the first to fail: it was killed by SIGKILL"));
}

TEST_F(SupervisorTest, ACrashIsAFailure) {
  Do(0, absl::StrCat("signal ", SIGABRT));
  Do(1, "stop 5 wait");
  EXPECT_EQ(Run(2), 1);
  EXPECT_THAT(Errors(), HasSubstr("rank 0 of 2 was the first to fail: it was killed by SIGABRT"));
}

TEST_F(SupervisorTest, RanksThatDoNotEndAreKilled) {
  Do(0, "deaf lines 1 wait");
  Do(1, "pause 100 exit 1");
  EXPECT_EQ(Run(2), 1);
  EXPECT_THAT(Errors(), HasSubstr("rank 1 of 2 was the first to fail: it ended with exit code 1"));
  EXPECT_THAT(Errors(), HasSubstr("rank 0: did not end by themselves"));
}

TEST_F(SupervisorTest, HandsASignalOn) {
  for (const int rank : {0, 1}) Do(rank, "stop 75 lines 1 wait");
  Start(2);
  ASSERT_TRUE(WaitUntilAllDid("lines"));
  ASSERT_EQ(kill(supervisor_, SIGTERM), 0);
  EXPECT_EQ(Wait(), 75);
  EXPECT_THAT(Errors(), HasSubstr("all ranks have stopped, as a signal asked"));
}

TEST_F(SupervisorTest, ASignalBeforeTheFirstStepLosesNothing) {
  for (const int rank : {0, 1}) Do(rank, "lines 1 wait");  // SIGINT has its default action: the rank dies
  Start(2);
  ASSERT_TRUE(WaitUntilAllDid("lines"));
  ASSERT_EQ(kill(supervisor_, SIGINT), 0);
  EXPECT_EQ(Wait(), 75);
}

TEST_F(SupervisorTest, ASecondSignalKills) {
  for (const int rank : {0, 1}) Do(rank, "deaf lines 1 wait");
  Start(2);
  ASSERT_TRUE(WaitUntilAllDid("lines"));
  ASSERT_EQ(kill(supervisor_, SIGTERM), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(AnyRankRuns());
  ASSERT_EQ(kill(supervisor_, SIGINT), 0);
  EXPECT_EQ(Wait(), 128 + SIGTERM);
}

TEST_F(SupervisorTest, LeavesNoOrphans) {
  for (const int rank : {0, 1, 2}) Do(rank, "deaf lines 1 wait");
  Start(3);
  ASSERT_TRUE(WaitUntilAllDid("lines"));
  ASSERT_EQ(kill(supervisor_, SIGKILL), 0);
  EXPECT_EQ(Wait(), -SIGKILL);  // which looks for ranks that still run
}

TEST_F(SupervisorTest, ATerminalStaysATerminal) {
  // script(1) would be one, too, but need not be installed.
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0) GTEST_SKIP() << "this machine has no pseudo-terminals (/dev/ptmx)";
  ASSERT_EQ(grantpt(terminal), 0);
  ASSERT_EQ(unlockpt(terminal), 0);
  ASSERT_EQ(symlink(ptsname(terminal), (out_ + "/stdout").c_str()), 0);
  EXPECT_EQ(Run(2), 0);
  char buffer[4096];
  const ssize_t size = read(terminal, buffer, sizeof(buffer));
  ASSERT_GT(size, 0);
  EXPECT_THAT(std::string(buffer, size), HasSubstr("\x1b[1mterminal\x1b[0m\r\nrank 0 of 2"));
  EXPECT_THAT(Log(0), HasSubstr("terminal\nrank 0 of 2"));
  EXPECT_THAT(Log(0), Not(HasSubstr("\x1b")));
  EXPECT_THAT(Log(1), HasSubstr("no terminal\n"));
  close(terminal);
}

TEST(PlainLineTest, DropsWhatOnlyATerminalUnderstands) {
  EXPECT_EQ(PlainLine("step 1  loss 2"), "step 1  loss 2");
  EXPECT_EQ(PlainLine("\x1b[1;31mstep\x1b[0m 1\r"), "step 1");
  EXPECT_EQ(PlainLine("10%\r20%\r30%"), "30%");
  EXPECT_EQ(PlainLine("cut \x1b["), "cut ");
}

}  // namespace
}  // namespace titan
