#include "titan/train/flags.h"

#include <cstdlib>
#include <utility>

#include "gtest/gtest.h"

namespace titan {
namespace {

// Environment variables, until the end of the scope.
class Variables {
 public:
  Variables(std::initializer_list<std::pair<std::string, std::string>> variables) : variables_(variables) {
    for (const auto& [name, value] : variables_) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Variables() {
    for (const auto& [name, value] : variables_) unsetenv(name.c_str());
  }

 private:
  std::vector<std::pair<std::string, std::string>> variables_;
};

std::string ErrorOf(const std::vector<std::string>& arguments) {
  const auto flags = ParseTrainerFlags(arguments);
  EXPECT_TRUE(absl::IsInvalidArgument(flags.status()));
  return std::string(flags.status().message());
}

TEST(FlagsTest, ReadsBothForms) {
  const auto flags = ParseTrainerFlags({"--bundle=/b", "--out", "/o", "--set", "a.b=c=d", "--set=e.f=1",
                                        "--resume=must", "--nproc", "2", "--dry_run", "--allow_digest_change"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->bundle, "/b");
  EXPECT_EQ(flags->out, "/o");
  EXPECT_EQ(flags->overrides, (std::vector<std::string>{"a.b=c=d", "e.f=1"}));
  EXPECT_EQ(flags->resume, Resume::kMust);
  EXPECT_EQ(flags->nproc, 2);
  EXPECT_TRUE(flags->dry_run);
  EXPECT_TRUE(flags->allow_digest_change);
}

TEST(FlagsTest, AloneWithoutARendezvous) {
  const auto flags = ParseTrainerFlags({"--bundle", "/b"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->identity.port, 0);
  EXPECT_EQ(flags->identity.rank, 0);
  EXPECT_EQ(flags->identity.world_size, 1);
  EXPECT_EQ(flags->identity.local_rank, 0);
}

TEST(FlagsTest, OneOfSeveral) {
  Variables slurm{{"SLURM_PROCID", "7"}, {"SLURM_NTASKS", "8"}, {"SLURM_LOCALID", "1"}};
  const auto flags = ParseTrainerFlags({"--bundle", "/b", "--rank", "3", "--world_size", "4", "--local_rank", "0",
                                        "--rendezvous", "node1:29500", "--listen_socket", "9"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->identity.rank, 3) << "flags come before Slurm's variables";
  EXPECT_EQ(flags->identity.world_size, 4);
  EXPECT_EQ(flags->identity.local_rank, 0);
  EXPECT_EQ(flags->identity.host, "node1");
  EXPECT_EQ(flags->identity.port, 29500);
  EXPECT_EQ(flags->identity.listen_socket, 9);
}

TEST(FlagsTest, OneOfSeveralTasksOfSlurm) {
  Variables slurm{{"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "8"}, {"SLURM_LOCALID", "1"}};
  const auto flags = ParseTrainerFlags({"--bundle", "/b", "--rendezvous", "[fd00::1]:29500"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->identity.rank, 5);
  EXPECT_EQ(flags->identity.world_size, 8);
  EXPECT_EQ(flags->identity.local_rank, 1);
  EXPECT_EQ(flags->identity.host, "fd00::1");
}

TEST(FlagsTest, SlurmsVariablesMeanNothingInABatchScript) {
  Variables slurm{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_LOCALID", "0"}};
  const auto flags = ParseTrainerFlags({"--bundle", "/b"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->identity.world_size, 1);
}

TEST(FlagsTest, SrunWithoutARendezvousIsRefused) {
  Variables slurm{{"SLURM_STEP_NUM_TASKS", "8"}};
  EXPECT_NE(ErrorOf({"--bundle", "/b"}).find("one of 8 tasks, but --rendezvous HOST:PORT is missing"),
            std::string::npos);
}

TEST(FlagsTest, HalfAnIdentityIsRefused) {
  const std::string together = "--rank, --world_size, --local_rank and --rendezvous belong together";
  EXPECT_NE(ErrorOf({"--bundle", "/b", "--rank", "0"}).find(together), std::string::npos);
  EXPECT_NE(ErrorOf({"--bundle", "/b", "--rank", "0", "--rendezvous", "a:1"}).find(together), std::string::npos);
  EXPECT_NE(ErrorOf({"--bundle", "/b", "--rank=0", "--world_size=2", "--local_rank=0"}).find(together),
            std::string::npos);
  EXPECT_NE(ErrorOf({"--bundle", "/b", "--rendezvous", "a:1"}).find("SLURM_PROCID is not set"), std::string::npos);
  Variables slurm{{"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "many"}};
  EXPECT_NE(ErrorOf({"--bundle", "/b", "--rendezvous", "a:1"}).find("SLURM_NTASKS is \"many\""), std::string::npos);
  EXPECT_EQ(ErrorOf({"--bundle", "/b", "--listen_socket", "3"}), "--listen_socket needs --rendezvous");
  EXPECT_EQ(ErrorOf({"--bundle", "/b", "--supervised_words", "3"}), "--supervised_words needs --rendezvous");
}

TEST(FlagsTest, SaysWhatIsWrongWithARendezvous) {
  for (const std::string text : {"node1", "node1:", ":29500", "node1:0", "node1:65536", "fd00::1:29500", "[]:29500"}) {
    EXPECT_NE(ErrorOf({"--bundle", "/b", "--rendezvous", text}).find("takes HOST:PORT"), std::string::npos) << text;
  }
  EXPECT_NE(ErrorOf({"--bundle=/b", "--rank=2", "--world_size=2", "--local_rank=0", "--rendezvous=a:1"})
                .find("rank 2, local rank 0 of 2 processes"),
            std::string::npos);
}

TEST(FlagsTest, RanksToShow) {
  EXPECT_EQ(ParseTrainerFlags({"--bundle", "/b"})->log_ranks, std::set<int64_t>({0}));
  EXPECT_EQ(ParseTrainerFlags({"--bundle", "/b", "--log_ranks", "0,3"})->log_ranks, std::set<int64_t>({0, 3}));
  EXPECT_EQ(ParseTrainerFlags({"--bundle", "/b", "--log_ranks", "all"})->log_ranks, std::nullopt);
  EXPECT_EQ(ErrorOf({"--bundle", "/b", "--log_ranks", "0,x"}), "--log_ranks 0,x: takes ranks, such as 0,3, or all");
}

TEST(FlagsTest, PathsAreMeantFromWhereTheUserIs) {
  setenv("BUILD_WORKING_DIRECTORY", "/home/someone", 1);
  const auto flags = ParseTrainerFlags({"--bundle", "/b", "--out", "runs/1"});
  unsetenv("BUILD_WORKING_DIRECTORY");
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->out, "/home/someone/runs/1");
}

TEST(FlagsTest, SuggestsTheNearestFlag) {
  EXPECT_EQ(ErrorOf({"--bundle", "/b", "--resum", "auto"}), "--resum: unknown flag; did you mean --resume?");
  EXPECT_NE(ErrorOf({"--zzzzzzzz"}).find("known are --allow_digest_change, --bundle, --dry_run"), std::string::npos);
}

TEST(FlagsTest, SaysWhatIsWrongWithAValue) {
  EXPECT_EQ(ErrorOf({"--bundle", "/b", "--resume", "perhaps"}), "--resume perhaps: takes auto, must or never");
  EXPECT_EQ(ErrorOf({"--bundle", "/b", "--nproc", "0"}), "--nproc 0: takes a number of processes, 1 or more");
  EXPECT_NE(ErrorOf({"--dry_run"}).find("--bundle is missing"), std::string::npos);
}

TEST(FlagsTest, HelpAsksForNothingElse) {
  const auto flags = ParseTrainerFlags({"--dry_run", "-h"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_TRUE(flags->help);
}

}  // namespace
}  // namespace titan
