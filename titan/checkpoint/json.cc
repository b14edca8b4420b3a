#include "titan/checkpoint/json.h"

#include <limits>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace titan {
namespace {

// The parser's values are destroyed recursively, so that a file of a million "[" would exhaust the stack.
constexpr int kMaxDepth = 32;

bool IsTooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string) {
      if (text[i] == '\\') {
        ++i;  // the escaped character is not looked at
      } else if (text[i] == '"') {
        in_string = false;
      }
      continue;
    }
    if (text[i] == '"') in_string = true;
    if (text[i] == '[' || text[i] == '{') ++depth;
    if (text[i] == ']' || text[i] == '}') --depth;
    if (depth > kMaxDepth) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text) {
  if (IsTooDeep(text)) return absl::InvalidArgumentError("not JSON that titan reads: nested too deeply");
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  std::string duplicate;
  const auto watch = [&](int, Event event, nlohmann::json& parsed) {
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(parsed.get<std::string>()).second && duplicate.empty()) {
      duplicate = parsed.get<std::string>();
    }
    return true;
  };
  nlohmann::json value;
  try {
    value = nlohmann::json::parse(text, watch);
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("not JSON: ", error.what()));
  }
  if (!duplicate.empty()) return absl::InvalidArgumentError(absl::StrCat("the key \"", duplicate, "\" appears twice"));
  if (!value.is_object()) return absl::InvalidArgumentError("not a JSON object");
  return value;
}

absl::StatusOr<std::vector<int64_t>> ParseSizes(const nlohmann::json& value) {
  if (!value.is_array()) return absl::InvalidArgumentError("not a list");
  std::vector<int64_t> sizes;
  for (const nlohmann::json& size : value) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
      return absl::InvalidArgumentError("not a list of integers from 0 to 2^63 - 1");
    }
    sizes.push_back(size.get<int64_t>());
  }
  return sizes;
}

}  // namespace titan
