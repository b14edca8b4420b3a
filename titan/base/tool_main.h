// The main function of a command-line tool, the same for all of them.
//
//   absl::Status Run(const std::vector<std::string>& arguments);
//
//   int main(int argc, char** argv) { return titan::ToolMain("tokenize", kUsage, argc, argv, Run); }

#ifndef TITAN_BASE_TOOL_MAIN_H_
#define TITAN_BASE_TOOL_MAIN_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace titan {

// Without the program's name, or without the command's.
using ToolFunction = absl::Status (*)(const std::vector<std::string>& arguments);

// Calls `run`, and returns the exit code: 0 done; 2 for input that is wrong or not there and output that is there
// already (InvalidArgument, NotFound, AlreadyExists); 1 for anything else, an exception of a library too. The error
// goes to stderr behind `name`; pass "" if the messages say themselves where they come from. --help prints `usage`; so
// does a command line without arguments, as an error.
int ToolMain(std::string_view name, std::string_view usage, int argc, char** argv, ToolFunction run);

// For tools of the form "tool COMMAND ARGUMENT...": calls the command that arguments[0] names. InvalidArgument if there
// is none, with the command that was probably meant.
absl::Status RunCommand(const std::map<std::string, ToolFunction>& commands, const std::vector<std::string>& arguments);

}  // namespace titan

#endif  // TITAN_BASE_TOOL_MAIN_H_
