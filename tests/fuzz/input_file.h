// An input as a file, for readers that map files. One in a process; its folder goes when the process ends.
//
//   OpenTokenFiles({WriteInput("input.uint16.bin", bytes)});

#ifndef TITAN_TESTS_FUZZ_INPUT_FILE_H_
#define TITAN_TESTS_FUZZ_INPUT_FILE_H_

#include <string>
#include <string_view>

namespace titan {

// Writes `bytes` into the file called `name`, over what an earlier call has written there. The path.
std::string WriteInput(const std::string& name, std::string_view bytes);

}  // namespace titan

#endif  // TITAN_TESTS_FUZZ_INPUT_FILE_H_
