// JSON that others wrote, read without exceptions and without surprises.

#ifndef TITAN_DATA_JSON_H_
#define TITAN_DATA_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace titan {

// The only value of `text`. InvalidArgument, with the place, for what is not JSON or nested more than 64 levels deep.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text);

// The member of an object; null if there is none, or `value` is no object.
const nlohmann::json& Member(const nlohmann::json& value, const char* key);

// The member's value, `fallback` where it is absent or null, InvalidArgument where it has another type.
absl::StatusOr<bool> BoolMember(const nlohmann::json& value, const char* key, bool fallback);
// InvalidArgument where it is absent or of another type.
absl::StatusOr<std::string> StringMember(const nlohmann::json& value, const char* key);
absl::StatusOr<int64_t> IntegerMember(const nlohmann::json& value, const char* key);  // [0, 2^63)

// The "type" of a tokenizer component; empty if it has none.
std::string TypeOf(const nlohmann::json& component);

}  // namespace titan

#endif  // TITAN_DATA_JSON_H_
