#include "titan/base/flags.h"

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::ElementsAre;

enum class Color { kRed, kGreen, kBlue };

// A tool with a flag of each kind.
struct Tool {
  std::string name = "nobody";
  std::string out;
  std::vector<std::string> sets;
  std::vector<std::string> inputs;
  bool dry_run = false;
  int64_t steps = 10;
  Color color = Color::kRed;

  absl::Status Parse(const std::vector<std::string>& arguments) {
    FlagParser flags;
    flags.Text("name", &name);
    flags.Path("out", &out);
    flags.List("set", &sets);
    flags.Switch("dry_run", &dry_run);
    flags.Number("steps", "a number of steps", 1, &steps);
    flags.Choice("color", {{"red", Color::kRed}, {"green", Color::kGreen}, {"blue", Color::kBlue}}, &color);
    flags.Positional(&inputs);
    flags.Require({"out"});
    return flags.Parse(arguments);
  }
};

std::string ErrorOf(const std::vector<std::string>& arguments) {
  const absl::Status status = Tool().Parse(arguments);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

TEST(FlagParser, ReadsBothForms) {
  Tool tool;
  const absl::Status status = tool.Parse({"left", "--name=--odd", "--out", "/o", "--set", "a.b=c=d", "--set=e.f=1",
                                          "right", "--dry_run", "--steps", "7", "--color=blue"});
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(tool.name, "--odd");
  EXPECT_EQ(tool.out, "/o");
  EXPECT_THAT(tool.sets, ElementsAre("a.b=c=d", "e.f=1"));
  EXPECT_THAT(tool.inputs, ElementsAre("left", "right"));
  EXPECT_TRUE(tool.dry_run);
  EXPECT_EQ(tool.steps, 7);
  EXPECT_EQ(tool.color, Color::kBlue);
}

TEST(FlagParser, LeavesDefaultsAndTakesTheLastOfTwo) {
  Tool tool;
  ASSERT_TRUE(tool.Parse({"--out=/a", "--out=/b"}).ok());
  EXPECT_EQ(tool.out, "/b");
  EXPECT_EQ(tool.name, "nobody");
  EXPECT_EQ(tool.steps, 10);
  EXPECT_FALSE(tool.dry_run);
}

TEST(FlagParser, PathsAreMeantFromWhereTheUserIs) {
  setenv("BUILD_WORKING_DIRECTORY", "/home/someone", 1);
  Tool tool;
  const absl::Status status = tool.Parse({"--out", "runs/1", "--name", "runs/1"});
  unsetenv("BUILD_WORKING_DIRECTORY");
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(tool.out, "/home/someone/runs/1");
  EXPECT_EQ(tool.name, "runs/1");
}

TEST(FlagParser, SuggestsTheNearestFlag) {
  EXPECT_EQ(ErrorOf({"--step", "3"}), "--step: unknown flag; did you mean --steps?");
  EXPECT_EQ(ErrorOf({"--dry-run"}), "--dry-run: unknown flag; did you mean --dry_run?");
  EXPECT_EQ(ErrorOf({"--hlep"}), "--hlep: unknown flag; did you mean --help?");
  EXPECT_EQ(ErrorOf({"--zzzzzzzz=1"}),
            "--zzzzzzzz=1: unknown flag; known are --color, --dry_run, --name, --out, --set, --steps, --help");
}

TEST(FlagParser, SaysWhatIsWrongWithAValue) {
  EXPECT_EQ(ErrorOf({"--out", "/o", "--color", "pink"}), "--color pink: takes red, green or blue");
  EXPECT_EQ(ErrorOf({"--out", "/o", "--steps", "0"}), "--steps 0: takes a number of steps, 1 or more");
  EXPECT_EQ(ErrorOf({"--out", "/o", "--steps=1e3"}), "--steps 1e3: takes a number of steps, 1 or more");
  EXPECT_EQ(ErrorOf({"--out"}), "--out needs a value; see --help");
  EXPECT_EQ(ErrorOf({"--out", "--dry_run"}), "--out needs a value; see --help");
  EXPECT_EQ(ErrorOf({"--out="}), "--out: the value is empty");
  EXPECT_EQ(ErrorOf({"--out", ""}), "--out: the value is empty");
  EXPECT_EQ(ErrorOf({"--dry_run=1"}), "--dry_run takes no value");
  EXPECT_EQ(ErrorOf({"--dry_run"}), "--out is missing; see --help");
}

TEST(FlagParser, TakesOnlyFlagsUnlessToldWhereOthersGo) {
  bool verbose = false;
  FlagParser flags;
  flags.Switch("verbose", &verbose);
  EXPECT_EQ(flags.Parse({"--verbose", "file"}).message(), "file: expected a flag; see --help");
}

TEST(WantsHelp, FindsBothForms) {
  EXPECT_TRUE(WantsHelp({"--out", "/o", "--help"}));
  EXPECT_TRUE(WantsHelp({"-h"}));
  EXPECT_FALSE(WantsHelp({"--out", "/o", "--help=1"}));
}

}  // namespace
}  // namespace titan
