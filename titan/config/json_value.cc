#include "titan/config/json_value.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/config/number_text.h"

namespace titan {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxShownBytes = 60;

// Receives nlohmann's events and builds a JsonValue: a container is
// built on the stack and moved into its parent when complete.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return Add(JsonValue{}); }
  bool boolean(bool value) override {
    JsonValue result;
    result.kind = JsonValue::Kind::kBool;
    result.boolean = value;
    return Add(std::move(result));
  }
  bool number_integer(int64_t value) override { return AddNumber(static_cast<double>(value), absl::StrCat(value)); }
  bool number_unsigned(uint64_t value) override { return AddNumber(static_cast<double>(value), absl::StrCat(value)); }
  bool number_float(double value, const std::string& literal) override { return AddNumber(value, literal); }
  bool string(std::string& value) override {
    JsonValue result;
    result.kind = JsonValue::Kind::kString;
    result.literal = std::move(value);
    return Add(std::move(result));
  }
  bool start_object(size_t) override { return Open(JsonValue::Kind::kObject); }
  bool key(std::string& name) override {
    open_.back().pending_key = std::move(name);
    return true;
  }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(JsonValue::Kind::kArray); }
  bool end_array() override { return Close(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& error) override {
    error_position_ = position;
    error_ = error.what();
    return false;
  }

  JsonValue TakeRoot() { return std::move(root_); }
  const std::string& error() const { return error_; }
  // Bytes read when the error was found.
  size_t error_position() const { return error_position_; }

 private:
  struct Container {
    JsonValue value;
    std::string pending_key;
  };

  bool AddNumber(double value, const std::string& literal) {
    JsonValue result;
    result.kind = JsonValue::Kind::kNumber;
    result.number = value;
    result.literal = literal;
    return Add(std::move(result));
  }

  bool Add(JsonValue value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Container& parent = open_.back(); parent.value.kind == JsonValue::Kind::kObject) {
      parent.value.members.emplace_back(std::move(parent.pending_key), std::move(value));
    } else {
      parent.value.elements.push_back(std::move(value));
    }
    return true;
  }

  bool Open(JsonValue::Kind kind) {
    if (open_.size() == kMaxDepth) {
      error_ = absl::StrCat("nested deeper than ", kMaxDepth, " levels");
      return false;
    }
    open_.emplace_back();
    open_.back().value.kind = kind;
    return true;
  }

  bool Close() {
    JsonValue value = std::move(open_.back().value);
    open_.pop_back();
    return Add(std::move(value));
  }

  JsonValue root_;
  std::vector<Container> open_;
  std::string error_;
  size_t error_position_ = 0;
};

// What is wrong, of nlohmann's "[json.exception.parse_error.101] parse error at line 1, column 2: what is wrong".
std::string Reason(const std::string& error) {
  size_t begin = 0;
  if (error.rfind("[json.exception", 0) == 0) begin = error.find("] ") + 2;
  if (error.compare(begin, 11, "parse error") == 0) begin = error.find(": ", begin) + 2;
  return error.substr(begin);
}

// "line 2, column 5: " of the last byte of `read`; nothing if it is empty.
std::string Place(std::string_view read) {
  if (read.empty()) return "";
  const size_t line_begin = read.rfind('\n') == read.npos ? 0 : read.rfind('\n') + 1;
  const auto newlines = std::count(read.begin(), read.end(), '\n');
  return absl::StrCat("line ", newlines + 1, ", column ", read.size() - line_begin, ": ");
}

}  // namespace

JsonValue::JsonValue() = default;
JsonValue::JsonValue(const JsonValue&) = default;
JsonValue::JsonValue(JsonValue&&) noexcept = default;
JsonValue& JsonValue::operator=(const JsonValue&) = default;
JsonValue& JsonValue::operator=(JsonValue&&) noexcept = default;
JsonValue::~JsonValue() = default;

JsonValue* JsonValue::Find(std::string_view name) {
  const auto found =
      std::find_if(members.rbegin(), members.rend(), [&](const auto& member) { return member.first == name; });
  return found == members.rend() ? nullptr : &found->second;
}

bool JsonValue::IsIntegerLiteral() const {
  return kind == Kind::kNumber && literal.find_first_not_of("-0123456789") == std::string::npos;
}

std::string_view KindName(JsonValue::Kind kind) {
  switch (kind) {
    case JsonValue::Kind::kNull:
      return "null";
    case JsonValue::Kind::kBool:
      return "a boolean";
    case JsonValue::Kind::kNumber:
      return "a number";
    case JsonValue::Kind::kString:
      return "a string";
    case JsonValue::Kind::kArray:
      return "a list";
    case JsonValue::Kind::kObject:
      return "an object";
  }
  return "";
}

std::string ShortText(const JsonValue& value) {
  switch (value.kind) {
    case JsonValue::Kind::kNull:
      return "null";
    case JsonValue::Kind::kBool:
      return value.boolean ? "true" : "false";
    case JsonValue::Kind::kNumber:
      return value.IsIntegerLiteral() ? value.literal : ShortestDouble(value.number);
    case JsonValue::Kind::kString: {
      // dump() with `replace` never throws and keeps the message on one line, whatever the bytes are.
      const std::string text = nlohmann::json(value.literal.substr(0, kMaxShownBytes))
                                   .dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
      return value.literal.size() <= kMaxShownBytes ? text : absl::StrCat(text.substr(0, text.size() - 1), "...\"");
    }
    case JsonValue::Kind::kArray:
      return value.elements.empty() ? "[]" : "[...]";
    case JsonValue::Kind::kObject:
      return value.members.empty() ? "{}" : "{...}";
  }
  return "";
}

absl::StatusOr<JsonValue> ParseJsonValue(std::string_view text) {
  Builder builder;
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) return builder.TakeRoot();
  return absl::InvalidArgumentError(
      absl::StrCat("not JSON: ", Place(text.substr(0, builder.error_position())), Reason(builder.error())));
}

}  // namespace titan
