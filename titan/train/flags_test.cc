#include "titan/train/flags.h"

#include <cstdlib>

#include "gtest/gtest.h"

namespace titan {
namespace {

std::string ErrorOf(const std::vector<std::string>& arguments) {
  const auto flags = ParseTrainerFlags(arguments);
  EXPECT_TRUE(absl::IsInvalidArgument(flags.status()));
  return std::string(flags.status().message());
}

TEST(FlagsTest, ReadsBothForms) {
  const auto flags = ParseTrainerFlags(
      {"--bundle=/b", "--out", "/o", "--set", "a.b=c=d", "--set=e.f=1", "--resume=must", "--nproc", "2", "--dry_run"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->bundle, "/b");
  EXPECT_EQ(flags->out, "/o");
  EXPECT_EQ(flags->overrides, (std::vector<std::string>{"a.b=c=d", "e.f=1"}));
  EXPECT_EQ(flags->resume, Resume::kMust);
  EXPECT_EQ(flags->nproc, 2);
  EXPECT_TRUE(flags->dry_run);
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
  EXPECT_NE(ErrorOf({"--zzzzzzzz"}).find("known are --bundle, --dry_run"), std::string::npos);
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
