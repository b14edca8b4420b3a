#include "titan/data/json.h"

#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace titan {
namespace {

constexpr int kMaxDepth = 64;

// Deep nesting would overflow the stack when the parsed value is destroyed.
bool IsTooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

absl::Status WrongType(const char* key, const char* expected) {
  return absl::InvalidArgumentError(absl::StrCat("\"", key, "\" must be ", expected));
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text) {
  if (IsTooDeep(text)) return absl::InvalidArgumentError("not JSON: nested too deeply");
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("not JSON: ", error.what()));
  }
}

const nlohmann::json& Member(const nlohmann::json& value, const char* key) {
  static const nlohmann::json* const kNull = new nlohmann::json();
  if (!value.is_object()) return *kNull;
  const auto member = value.find(key);
  return member == value.end() ? *kNull : *member;
}

absl::StatusOr<bool> BoolMember(const nlohmann::json& value, const char* key, bool fallback) {
  const nlohmann::json& member = Member(value, key);
  if (member.is_null()) return fallback;
  if (!member.is_boolean()) return WrongType(key, "true or false");
  return member.get<bool>();
}

absl::StatusOr<std::string> StringMember(const nlohmann::json& value, const char* key) {
  const nlohmann::json& member = Member(value, key);
  if (!member.is_string()) return WrongType(key, "a string");
  return member.get<std::string>();
}

absl::StatusOr<int64_t> IntegerMember(const nlohmann::json& value, const char* key) {
  const nlohmann::json& member = Member(value, key);
  if (!member.is_number_unsigned() || member.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return WrongType(key, "an integer that is not negative");
  }
  return member.get<int64_t>();
}

std::string TypeOf(const nlohmann::json& component) {
  const nlohmann::json& type = Member(component, "type");
  return type.is_string() ? type.get<std::string>() : "";
}

}  // namespace titan
