// JSON as titan/data reads it: whole, and line by line as a corpus.

#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_file.h"
#include "titan/data/json.h"
#include "titan/data/text_source.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

void FuzzJson(std::string_view text) {
  const auto value = ParseJson(text);
  if (!value.ok()) return;
  // What was accepted is UTF-8, or dump() would throw.
  const auto again = ParseJson(value->dump());
  REQUIRE(again.ok() && *again == *value);
  (void)TypeOf(*value);
  (void)BoolMember(*value, "text", false);
  const auto number = IntegerMember(*value, "text");
  if (number.ok()) REQUIRE(*number >= 0);
}

void FuzzJsonl(std::string_view text) {
  const std::string path = WriteInput("input.jsonl", text);
  const auto source = OpenJsonl({path}, "text");
  if (!source.ok()) return;
  for (int64_t i = 0; i < (*source)->size(); ++i) {
    const auto document = (*source)->Read(i);
    REQUIRE((*source)->Where(i).find("input.jsonl:") != std::string::npos);
    if (document.ok()) REQUIRE(!FindInvalidUtf8(*document).has_value());
  }
}

}  // namespace
}  // namespace titan

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = titan::AsText(data, size);
  titan::FuzzJson(text);
  titan::FuzzJsonl(text);
  return 0;
}
