// JSON as it was written: duplicate keys, number literals and member order are kept, so that the strict reader can
// judge them. (Parsers that build a map have thrown that away.)
//
//   absl::StatusOr<JsonValue> root = ParseJsonValue(R"({"training": {"steps": 20}})");
//   root->members[0].second.members[0].second.literal;  // "20"

#ifndef TITAN_CONFIG_JSON_VALUE_H_
#define TITAN_CONFIG_JSON_VALUE_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace titan {

struct JsonValue {
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  // In the source file: clang needs `members` complete for them, and that contains this class.
  JsonValue();
  JsonValue(const JsonValue&);
  JsonValue(JsonValue&&) noexcept;
  JsonValue& operator=(const JsonValue&);
  JsonValue& operator=(JsonValue&&) noexcept;
  ~JsonValue();

  Kind kind = Kind::kNull;
  bool boolean = false;
  double number = 0;
  // kNumber: as written ("1e3"); kString: the string.
  std::string literal;
  std::vector<JsonValue> elements;                         // kArray
  std::vector<std::pair<std::string, JsonValue>> members;  // kObject, as written
  // The `path=value` of a command line that put the value here; empty when it comes from the document.
  std::string override_text;

  // The last member of that name, or null.
  JsonValue* Find(std::string_view name);
  // A number without fraction and exponent.
  bool IsIntegerLiteral() const;
};

// "a string", "an object", ...
std::string_view KindName(JsonValue::Kind kind);

// The value on one line for messages, shortened if it is long.
std::string ShortText(const JsonValue& value);

// The only value of `text`. InvalidArgument, with line and column, for anything but strict JSON (RFC 8259): comments,
// trailing commas, NaN, numbers that no double holds, and for nesting beyond 64 levels.
absl::StatusOr<JsonValue> ParseJsonValue(std::string_view text);

}  // namespace titan

#endif  // TITAN_CONFIG_JSON_VALUE_H_
