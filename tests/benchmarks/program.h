// Programs that a benchmark runs one after the other.

#ifndef TITAN_TESTS_BENCHMARKS_PROGRAM_H_
#define TITAN_TESTS_BENCHMARKS_PROGRAM_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace titan {

// Runs `command`, found by PATH unless it is a path, its output in `log`; its exit code, or minus the signal that ended
// it.
absl::StatusOr<int> RunProgram(const std::vector<std::string>& command, const std::string& log);

}  // namespace titan

#endif  // TITAN_TESTS_BENCHMARKS_PROGRAM_H_
