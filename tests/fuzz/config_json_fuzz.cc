// JSON as the reader of configurations has it: every value can be shown in a message of one line.

#include "tests/fuzz/fuzz_target.h"
#include "titan/config/json_value.h"

namespace titan {
namespace {

void Check(const JsonValue& value, int depth) {
  REQUIRE(depth <= 64);
  const std::string shown = ShortText(value);
  REQUIRE(!shown.empty() && shown.find('\n') == std::string::npos);
  REQUIRE(!KindName(value.kind).empty());
  for (const JsonValue& element : value.elements) Check(element, depth + 1);
  for (const auto& [name, member] : value.members) Check(member, depth + 1);
}

}  // namespace
}  // namespace titan

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto value = titan::ParseJsonValue(titan::AsText(data, size));
  if (value.ok()) titan::Check(*value, 0);
  if (!value.ok()) REQUIRE(!value.status().message().empty());
  return 0;
}
