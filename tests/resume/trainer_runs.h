// Runs of the real trainer, for tests: a small bundle, the trainer as a process, and what it left behind.
//
//   class ResumeTest : public TrainerRunTest {
//    protected:
//     ResumeTest() : TrainerRunTest(kExperiment) {}
//   };
//   TEST_F(ResumeTest, Trains) {
//     EXPECT_EQ(Run("out", {"--set", "training.steps=3"}), 0) << Log();
//     EXPECT_EQ(Lines("out/metrics.jsonl").size(), 3u);
//   }
//
// The test's target has //titan/train:titan_trainer among its data.

#ifndef TITAN_TESTS_RESUME_TRAINER_RUNS_H_
#define TITAN_TESTS_RESUME_TRAINER_RUNS_H_

#include <sys/resource.h>
#include <sys/types.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace titan {

// Below the directory in which a test runs.
inline constexpr char kTrainer[] = "titan/train/titan_trainer";

// Writes a file, and the directories that it needs.
void WriteTestFile(const std::string& path, std::string_view content);

// 3000 tokens below 64, of two bytes each.
std::string TestTokens();

// A bundle without programs and libraries: the experiment, the corpus "words" of these tokens in
// data/words/words.uint16.bin, and further files by their path in the bundle, which may replace these.
void WriteTestBundle(const std::string& bundle, std::string_view experiment,
                     const std::map<std::string, std::string>& further = {});

// The most bytes of addresses, and of any file.
struct Limits {
  rlim_t memory = RLIM_INFINITY;
  rlim_t file_size = RLIM_INFINITY;
};

class TrainerRunTest : public testing::Test {
 protected:
  // Each test has a directory of its own, with the bundle in it.
  explicit TrainerRunTest(std::string_view experiment, const std::map<std::string, std::string>& further_files = {});

  // Runs the trainer with --out `out` until it ends; its exit code.
  int Run(const std::string& out, const std::vector<std::string>& flags = {}, const Limits& limits = {}) const;
  // Sends `signal` once so many steps are logged; the process's status, as waitpid gives it.
  int RunAndSignal(const std::string& out, int signal, size_t steps) const;
  // The same in two steps: the trainer's arguments; a process, whose output goes to `log`; its status, as waitpid gives
  // it.
  std::vector<std::string> Command(const std::string& out, const std::vector<std::string>& flags = {}) const;
  static pid_t Start(const std::vector<std::string>& arguments, const std::string& log, const Limits& limits = {});
  static int Wait(pid_t child);
  // What the trainers that Run and RunAndSignal started have printed.
  std::string Log() const;

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  std::vector<std::string> Lines(const std::string& name) const;
  // Both runs logged the same `steps` steps, bit for bit.
  void ExpectSameSteps(const std::string& left, const std::string& right, int64_t steps) const;
  // The files of two checkpoints are the same bytes.
  void ExpectSameFiles(const std::string& left, const std::string& right, std::string_view ending = "") const;

 private:
  const std::string directory_;
};

}  // namespace titan

#endif  // TITAN_TESTS_RESUME_TRAINER_RUNS_H_
