// Corpora as others publish them: Parquet, Arrow, and everything else as lines and as one text, compressed or not.
// Apache Arrow is a library that was compiled without coverage, so that only the first steps into it are found by
// libFuzzer.

#include "absl/status/status.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_file.h"
#include "titan/data/foreign_texts.h"

namespace titan {
namespace {

void Fuzz(const std::string& path) {
  size_t bytes = 0;
  const absl::Status status = ReadForeignTexts(path, {}, [&](std::string_view text) {
    for (const char c : text) bytes += static_cast<unsigned char>(c) != 0;
    return bytes < (size_t{64} << 20) ? absl::OkStatus() : absl::ResourceExhaustedError("a bomb");
  });
  REQUIRE(status.ok() || status.message().find(path) != std::string::npos);
}

}  // namespace
}  // namespace titan

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = titan::AsText(data, size);
  const char first = bytes.empty() ? 0 : bytes[0];
  if (first == 'P') {
    titan::Fuzz(titan::WriteInput("input.parquet", bytes));
  } else if (first == 'A' || first == '\xff') {
    titan::Fuzz(titan::WriteInput("input.arrow", bytes));
  } else {
    for (const char* name : {"input.jsonl", "input.txt"}) titan::Fuzz(titan::WriteInput(name, bytes));
  }
  return 0;
}
