// A tokenizer.json and a text for it: the text is what follows the first byte 0xFF, which no JSON holds. Whatever is
// loaded gives ids of its vocabulary, the same ones again, and decodes them to UTF-8.

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_target.h"
#include "titan/data/tokenizer.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

constexpr char kText[] = "Hello, it's <|begin_of_text|> <s> 1234 caf\xC3\xA9 e\xCC\x81\xEF\xAC\x81\r\n  \u2581 end";
constexpr size_t kMaxText = 512;
constexpr int64_t kMaxDecoded = 1024;

void CheckText(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool add_special_tokens : {false, true}) {
    const auto ids = tokenizer.Encode(text, add_special_tokens);
    if (!ids.ok()) continue;  // a regular expression that gives up
    for (const int64_t id : *ids) REQUIRE(id >= 0 && id < tokenizer.vocab_size());
    const auto again = tokenizer.Encode(text, add_special_tokens);  // from the cache
    REQUIRE(again.ok() && *again == *ids);
    REQUIRE(!FindInvalidUtf8(tokenizer.Decode(*ids, add_special_tokens)).has_value());
  }
}

void CheckAllIds(const Tokenizer& tokenizer) {
  std::vector<int64_t> ids(std::min(tokenizer.vocab_size(), kMaxDecoded) + 2);
  std::iota(ids.begin(), ids.end(), -1);
  REQUIRE(!FindInvalidUtf8(tokenizer.Decode(ids, /*skip_special_tokens=*/false)).has_value());
}

}  // namespace
}  // namespace titan

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input = titan::AsText(data, size);
  const size_t end = input.find('\xFF');
  const auto tokenizer = titan::Tokenizer::Parse(input.substr(0, end));
  if (!tokenizer.ok()) {
    REQUIRE(!tokenizer.status().message().empty());
    return 0;
  }
  titan::CheckText(**tokenizer, titan::kText);
  if (end != input.npos) {
    titan::CheckText(**tokenizer, titan::LossyUtf8(input.substr(end + 1, titan::kMaxText)));
  }
  titan::CheckAllIds(**tokenizer);
  return 0;
}
