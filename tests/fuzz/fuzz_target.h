// What every fuzz target has: the entry point of libFuzzer, and what it may find.
//
//   extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
//     const auto index = ParseIndex(AsText(data, size));
//     if (index.ok()) REQUIRE(FormatIndex(*index) == ...);
//     return 0;
//   }
//
// Whatever the input is, a target ends with 0; a crash, a sanitizer's report or a broken REQUIRE is a bug of ours.

#ifndef TITAN_TESTS_FUZZ_FUZZ_TARGET_H_
#define TITAN_TESTS_FUZZ_FUZZ_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// Ends the process, so that the fuzzer keeps the input.
#define REQUIRE(condition)                                                         \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)

namespace titan {

inline std::string_view AsText(const uint8_t* data, size_t size) {
  return std::string_view(reinterpret_cast<const char*>(data), size);
}

}  // namespace titan

#endif  // TITAN_TESTS_FUZZ_FUZZ_TARGET_H_
