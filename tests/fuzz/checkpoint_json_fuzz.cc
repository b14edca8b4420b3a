// JSON objects as titan/checkpoint reads them: no key twice, whatever else is in the text.

#include "tests/fuzz/fuzz_target.h"
#include "titan/checkpoint/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto object = titan::ParseJsonObject(titan::AsText(data, size));
  if (!object.ok()) return 0;
  REQUIRE(object->is_object());
  const auto again = titan::ParseJsonObject(object->dump());
  REQUIRE(again.ok() && *again == *object);
  for (const auto& [key, value] : object->items()) {
    const auto sizes = titan::ParseSizes(value);
    if (!sizes.ok()) continue;
    for (const int64_t each : *sizes) REQUIRE(each >= 0);
  }
  return 0;
}
