#include "titan/base/tool_main.h"

#include <exception>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/base/flags.h"
#include "titan/base/nearest.h"

namespace titan {
namespace {

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kBadInput = 2;

void PrintError(std::string_view name, std::string_view message) {
  std::cerr << name << (name.empty() ? "" : ": ") << message << std::endl;
}

}  // namespace

int ToolMain(std::string_view name, std::string_view usage, int argc, char** argv, ToolFunction run) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.empty()) {
    std::cerr << usage << std::endl;
    return kBadInput;
  }
  if (WantsHelp(arguments)) {
    std::cout << usage << std::endl;
    return kDone;
  }
  try {
    const absl::Status status = run(arguments);
    if (status.ok()) return kDone;
    PrintError(name, status.message());
    const bool is_users_to_mend =
        absl::IsInvalidArgument(status) || absl::IsNotFound(status) || absl::IsAlreadyExists(status);
    return is_users_to_mend ? kBadInput : kFailed;
  } catch (const std::exception& error) {  // LibTorch and the JSON library report by exceptions
    PrintError(name, error.what());
    return kFailed;
  }
}

absl::Status RunCommand(const std::map<std::string, ToolFunction>& commands,
                        const std::vector<std::string>& arguments) {
  const std::string command = arguments.empty() ? "" : arguments[0];
  const auto found = commands.find(command);
  if (found != commands.end()) return found->second({arguments.begin() + 1, arguments.end()});
  std::vector<std::string> known;
  for (const auto& [name, unused] : commands) known.push_back(name);
  const std::string nearest = Nearest(command, known);
  return absl::InvalidArgumentError(absl::StrCat(command, ": no such command; ",
                                                 nearest.empty()
                                                     ? absl::StrCat("known are ", absl::StrJoin(known, ", "))
                                                     : absl::StrCat("did you mean ", nearest, "?")));
}

}  // namespace titan
