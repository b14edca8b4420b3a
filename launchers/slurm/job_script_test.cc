// The script, and what it does in a shell where scontrol and srun only say how they were called.

#include "launchers/slurm/job_script.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using testing::HasSubstr;
using testing::Not;

config::Experiment TwoNodes() {
  config::Experiment experiment;
  experiment.mutable_cluster()->set_num_nodes(2);
  experiment.mutable_cluster()->set_devices_per_node(4);
  experiment.mutable_checkpoint()->set_enable(true);
  return experiment;
}

TEST(JobScriptTest, AsksForTheExperimentsCluster) {
  const std::string script = JobScript("llama3/debug", TwoNodes());
  EXPECT_EQ(script.substr(0, 12), "#!/bin/bash\n");
  EXPECT_THAT(script, HasSubstr("\n#SBATCH --job-name=llama3-debug\n"));
  EXPECT_THAT(script, HasSubstr("\n#SBATCH --nodes=2\n"));
  EXPECT_THAT(script, HasSubstr("\n#SBATCH --ntasks-per-node=4\n"));
  EXPECT_THAT(script, Not(HasSubstr("gpu")));
}

TEST(JobScriptTest, AsksForGpus) {
  config::Experiment experiment = TwoNodes();
  experiment.mutable_cluster()->set_accelerator(config::Cluster::ACCELERATOR_H100);
  EXPECT_THAT(JobScript("x", experiment), HasSubstr("\n#SBATCH --gres=gpu:4\n"));
}

TEST(JobScriptTest, OnlyWhatHasACheckpointIsQueuedAgain) {
  config::Experiment experiment = TwoNodes();
  EXPECT_THAT(JobScript("x", experiment), HasSubstr("#SBATCH --requeue\n#SBATCH --signal=TERM@120\n"));
  EXPECT_THAT(JobScript("x", experiment), HasSubstr("scontrol requeue"));
  experiment.mutable_checkpoint()->set_enable(false);
  EXPECT_THAT(JobScript("x", experiment), HasSubstr("#SBATCH --no-requeue\n"));
  EXPECT_THAT(JobScript("x", experiment), Not(HasSubstr("scontrol requeue")));
  EXPECT_THAT(JobScript("x", experiment), Not(HasSubstr("--signal")));
}

TEST(JobScriptTest, ANameIsOnlyAName) {
  const std::string script = JobScript("a $(b)\n#SBATCH --wrap=c", TwoNodes());
  EXPECT_THAT(script, HasSubstr("--job-name=a---b---SBATCH---wrap-c\n"));
}

class RunningJobScriptTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = absl::StrCat(testing::TempDir(), "/job script-XXXXXX");
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    ASSERT_TRUE(MakeDirectories(dir_ + "/bin").ok());
    Program("scontrol", "echo \"scontrol $*\" >> \"$HERE/calls\"; echo node7; echo node8");
    Program("srun", "for word in \"$@\"; do echo \"word=$word\"; done; echo \"threads=$OMP_NUM_THREADS\"; exit $CODE");
    ASSERT_TRUE(WriteFileAtomically(dir_ + "/job", JobScript("x", TwoNodes())).ok());
  }

  void Program(const std::string& name, const std::string& body) {
    const std::string path = absl::StrCat(dir_, "/bin/", name);
    ASSERT_TRUE(WriteFileAtomically(path, "#!/bin/sh\n" + body + "\n").ok());
    chmod(path.c_str(), 0755);
  }

  // Runs the script with `arguments`, where srun ends with `srun_code`; returns its exit code.
  int Run(const std::vector<std::string>& arguments, int srun_code = 0) {
    std::string command = absl::StrCat(
        "HERE=", ShellQuoted(dir_), " PATH=", ShellQuoted(dir_ + "/bin"), ":$PATH CODE=", srun_code,
        " SLURM_JOB_ID=123456 SLURM_JOB_NODELIST='node[7-8]' SLURM_CPUS_ON_NODE=10 bash ", ShellQuoted(dir_ + "/job"));
    for (const std::string& argument : arguments) absl::StrAppend(&command, " ", ShellQuoted(argument));
    absl::StrAppend(&command, " > ", ShellQuoted(dir_ + "/output"), " 2>&1");
    const int status = system(command.c_str());
    output_ = ReadFile(dir_ + "/output").value_or("");
    calls_ = ReadFile(dir_ + "/calls").value_or("");
    return WEXITSTATUS(status);
  }

  std::string dir_, output_, calls_;
};

TEST_F(RunningJobScriptTest, StartsTheBundleAsOneTaskForEachRank) {
  const std::string evil = "a.b='$(touch \"$HERE/evil\")' `touch \"$HERE/evil\"`; \"\n*";
  EXPECT_EQ(Run({dir_ + "/the bundle", dir_ + "/it's out", "--set", evil}), 0);
  EXPECT_THAT(output_,
              HasSubstr(absl::StrCat("word=", dir_, "/the bundle/run\nword=--out\nword=", dir_,
                                     "/it's out\nword=--rendezvous\nword=node7:23456\nword=--set\nword=", evil, "\n")));
  EXPECT_THAT(output_, HasSubstr(absl::StrCat("word=--output=", dir_, "/it's out/logs/rank-%t.log\n")));
  EXPECT_THAT(output_, HasSubstr("threads=2\n")) << "10 cores for 4 ranks";
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/evil"));
  EXPECT_TRUE(std::filesystem::is_directory(dir_ + "/it's out/logs"));
}

TEST_F(RunningJobScriptTest, QueuesItselfAgainAfterPreemption) {
  EXPECT_EQ(Run({"/bundle", dir_ + "/out"}, /*srun_code=*/75), 75);
  EXPECT_THAT(calls_, HasSubstr("scontrol requeue 123456\n"));
}

TEST_F(RunningJobScriptTest, HandsTheExitCodeOn) {
  EXPECT_EQ(Run({"/bundle", dir_ + "/out"}, /*srun_code=*/4), 4);
  EXPECT_THAT(calls_, Not(HasSubstr("requeue")));
  EXPECT_THAT(output_, HasSubstr("ended with exit code 4; what each rank said is in"));
}

TEST_F(RunningJobScriptTest, RefusesWhatCannotWork) {
  EXPECT_EQ(Run({"/bundle"}), 2);
  EXPECT_THAT(output_, HasSubstr("usage: sbatch"));
  EXPECT_EQ(Run({"bundle", dir_ + "/out"}), 2);
  EXPECT_THAT(output_, HasSubstr("BUNDLE must be an absolute path: bundle"));
  EXPECT_EQ(Run({"/bundle", "out"}), 2);
  EXPECT_THAT(output_, HasSubstr("OUT must be an absolute path: out"));
  EXPECT_EQ(Run({"/bundle", dir_ + "/100%"}), 2);
  EXPECT_EQ(Run({"/bundle", dir_ + "/a\\b"}), 2);
  EXPECT_THAT(output_, HasSubstr("choose another OUT"));
  EXPECT_THAT(output_, Not(HasSubstr("word=")));
}

TEST(ShellQuotedTest, QuotesWhatAShellWouldChange) {
  EXPECT_EQ(ShellQuoted("--set=a.b=1"), "--set=a.b=1");
  EXPECT_EQ(ShellQuoted("it's"), "'it'\\''s'");
  EXPECT_EQ(ShellQuoted("$x"), "'$x'");
  EXPECT_EQ(ShellQuoted(""), "''");
}

}  // namespace
}  // namespace titan
