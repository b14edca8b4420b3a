#include "titan/base/tool_main.h"

#include <stdexcept>

#include "gtest/gtest.h"

namespace titan {
namespace {

constexpr char kUsage[] = "usage: tool FILE";

absl::Status Done(const std::vector<std::string>&) { return absl::OkStatus(); }
absl::Status NotThere(const std::vector<std::string>& a) { return absl::NotFoundError(a[0] + ": no such file"); }
absl::Status Throws(const std::vector<std::string>&) { throw std::runtime_error("out of memory"); }
absl::Status Damaged(const std::vector<std::string>& a) { return absl::DataLossError(a[0] + " is damaged"); }

struct Outcome {
  int exit_code;
  std::string out;
  std::string err;
};

Outcome Call(std::string_view name, std::vector<std::string> arguments, ToolFunction run) {
  arguments.insert(arguments.begin(), "/bin/tool");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int exit_code = ToolMain(name, kUsage, static_cast<int>(argv.size()), argv.data(), run);
  return {exit_code, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

TEST(ToolMain, TellsTheUsersFaultFromTheMachines) {
  EXPECT_EQ(Call("tool", {"a"}, Done).exit_code, 0);

  const Outcome missing = Call("tool", {"a"}, NotThere);
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_EQ(missing.err, "tool: a: no such file\n");
  EXPECT_EQ(missing.out, "");

  const Outcome damaged = Call("", {"a"}, Damaged);
  EXPECT_EQ(damaged.exit_code, 1);
  EXPECT_EQ(damaged.err, "a is damaged\n");

  const Outcome thrown = Call("tool", {"a"}, Throws);
  EXPECT_EQ(thrown.exit_code, 1);
  EXPECT_EQ(thrown.err, "tool: out of memory\n");
}

TEST(ToolMain, PrintsItsUsage) {
  const Outcome help = Call("tool", {"a", "--help"}, Damaged);
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_EQ(help.out, "usage: tool FILE\n");

  const Outcome nothing = Call("tool", {}, Done);
  EXPECT_EQ(nothing.exit_code, 2);
  EXPECT_EQ(nothing.err, "usage: tool FILE\n");
}

TEST(RunCommand, FindsTheCommandOrTheNearest) {
  const std::map<std::string, ToolFunction> commands = {{"inspect", NotThere}, {"verify", Damaged}};
  EXPECT_EQ(RunCommand(commands, {"verify", "x"}).message(), "x is damaged");
  EXPECT_EQ(RunCommand(commands, {"verfy", "x"}).message(), "verfy: no such command; did you mean verify?");
  EXPECT_EQ(RunCommand(commands, {"paint"}).message(), "paint: no such command; known are inspect, verify");
}

}  // namespace
}  // namespace titan
