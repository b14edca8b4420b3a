// Token files: the same bytes as each of the formats that a file's name can promise.

#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_file.h"
#include "titan/data/document_source.h"

namespace titan {
namespace {

void Fuzz(const std::string& path) {
  const auto source = OpenTokenFiles({path});
  if (!source.ok()) {
    REQUIRE(source.status().message().find(path) != std::string::npos);
    return;
  }
  for (int64_t i = 0; i < (*source)->size(); ++i) {
    const auto document = (*source)->Read(i);
    REQUIRE(document.ok());
    int64_t sum = 0;
    for (int64_t token = 0; token < document->size(); ++token) sum ^= (*document)[token];
    volatile int64_t used = sum;
    (void)used;
    REQUIRE(!(*source)->Where(i).empty());
  }
}

}  // namespace
}  // namespace titan

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = titan::AsText(data, size);
  for (const char* name : {"input.safetensors", "input.uint16.bin", "input.uint32.bin"}) {
    titan::Fuzz(titan::WriteInput(name, bytes));
  }
  return 0;
}
