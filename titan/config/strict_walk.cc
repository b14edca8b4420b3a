#include "titan/config/strict_walk.h"

#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/log/log.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/descriptor.h"
#include "titan/base/nearest.h"
#include "titan/config/number_text.h"
#include "titan/config/schema.h"

namespace titan {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Above it, neighbouring integers are one and the same double, and Jsonnet knows doubles only.
constexpr int64_t kMaxExactInteger = (int64_t{1} << 53) - 1;

// "from 1 to 1024 steps, or -1"
std::string RangeText(const config::FieldRule& rule) {
  std::string text;
  if (rule.has_min() && rule.has_max() && !rule.exclusive_min()) {
    text = absl::StrCat("from ", ShortestDouble(rule.min()), " to ", ShortestDouble(rule.max()));
  } else {
    if (rule.has_min()) text = absl::StrCat(rule.exclusive_min() ? "above " : "at least ", ShortestDouble(rule.min()));
    if (rule.has_max()) absl::StrAppend(&text, text.empty() ? "" : " and ", "at most ", ShortestDouble(rule.max()));
  }
  if (rule.has_unit()) absl::StrAppend(&text, " ", rule.unit());
  if (rule.has_special()) absl::StrAppend(&text, ", or ", ShortestDouble(rule.special()));
  return text;
}

bool InRange(double value, const config::FieldRule& rule) {
  if (rule.has_special() && value == rule.special()) return true;
  if (rule.has_min() && (rule.exclusive_min() ? value <= rule.min() : value < rule.min())) return false;
  return !rule.has_max() || value <= rule.max();
}

std::string_view ExpectedType(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
    case FieldDescriptor::CPPTYPE_UINT64:
      return "an integer";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return "an object";
    default:
      return "a string";
  }
}

JsonValue::Kind ExpectedKind(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
    case FieldDescriptor::CPPTYPE_UINT64:
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return JsonValue::Kind::kNumber;
    case FieldDescriptor::CPPTYPE_BOOL:
      return JsonValue::Kind::kBool;
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return JsonValue::Kind::kObject;
    default:
      return JsonValue::Kind::kString;
  }
}

class Walker {
 public:
  Walker(const Descriptor& root, ConfigErrors& errors) : root_(root), errors_(errors) {}

  void Object(const JsonValue& json, const std::string& path, Message& message);
  void NotAnObject(const JsonValue& json, const std::string& path) {
    Fail(json, path, absl::StrCat(ShortText(json), " is ", KindName(json.kind), "; expected an object"));
  }

 private:
  // A field and the JSON that is to become its value.
  struct Item {
    const JsonValue& json;
    const FieldDescriptor& field;
    std::string path;
    Message& parent;
  };

  void Fail(const JsonValue& json, const std::string& path, std::string message) {
    errors_.Add(path, std::move(message), json.override_text);
  }
  void Fail(const Item& item, std::string message) { Fail(item.json, item.path, std::move(message)); }

  void Field(const Item& item);
  void List(const Item& item);
  void Value(const Item& item);
  void Integer(const Item& item);
  void Double(const Item& item);
  void String(const Item& item);
  void Enum(const Item& item);
  bool CheckKind(const Item& item);
  // Whether the value may be set: `is_default` says that it is what it would be anyway.
  bool CheckSupported(const Item& item, bool is_default);
  bool CheckRange(const Item& item, double value);
  void CheckRequired(const JsonValue& json, const std::string& path, const Descriptor& type);
  template <typename T, typename Setter, typename Adder>
  void Store(const Item& item, const T& value, Setter set, Adder add);

  const Descriptor& root_;
  ConfigErrors& errors_;
};

void Walker::Object(const JsonValue& json, const std::string& path, Message& message) {
  const Descriptor& type = *message.GetDescriptor();
  std::map<std::string, int> count;
  for (const auto& [name, value] : json.members) {
    const std::string field_path = JoinPath(path, name);
    const int times = ++count[name];
    if (times == 2) Fail(value, field_path, "given more than once");
    if (times > 1) continue;
    const FieldDescriptor* field = type.FindFieldByName(name);
    if (field == nullptr) {
      Fail(value, field_path, absl::StrCat("unknown field", UnknownFieldHint(name, type, root_)));
    } else {
      Field({value, *field, field_path, message});
    }
  }
  CheckRequired(json, path, type);
}

void Walker::CheckRequired(const JsonValue& json, const std::string& path, const Descriptor& type) {
  std::set<std::string> given;
  for (const auto& [name, value] : json.members) given.insert(name);
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const config::FieldRule& rule = RuleOf(field);
    if (given.count(std::string(field.name())) > 0) continue;
    const std::string field_path = JoinPath(path, field.name());
    if (rule.required()) {
      errors_.AddMissing(field_path, absl::StrCat("missing; it has no default, expected ", ExpectedType(field)),
                         json.override_text);
    } else if (field.is_repeated() && rule.not_empty()) {
      errors_.AddMissing(field_path, "missing; it needs at least one element", json.override_text);
    }
  }
}

void Walker::Field(const Item& item) {
  if (item.json.kind == JsonValue::Kind::kNull) {
    Fail(item, "null is not a value; leave the field out for its default");
  } else if (item.field.is_repeated()) {
    List(item);
  } else {
    Value(item);
  }
}

void Walker::List(const Item& item) {
  if (item.json.kind != JsonValue::Kind::kArray) {
    Fail(item, absl::StrCat(ShortText(item.json), " is ", KindName(item.json.kind), "; expected a list"));
    return;
  }
  if (RuleOf(item.field).not_empty() && item.json.elements.empty())
    Fail(item, "[] is empty; it needs at least one element");
  if (!CheckSupported(item, /*is_default=*/item.json.elements.empty())) return;
  for (size_t i = 0; i < item.json.elements.size(); ++i) {
    const Item element = {item.json.elements[i], item.field, absl::StrCat(item.path, ".", i), item.parent};
    if (element.json.kind == JsonValue::Kind::kNull) {
      Fail(element, "null is not a value");
    } else {
      Value(element);
    }
  }
}

void Walker::Value(const Item& item) {
  if (!CheckKind(item)) return;
  const auto* reflection = item.parent.GetReflection();
  switch (item.field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
    case FieldDescriptor::CPPTYPE_UINT64:
      return Integer(item);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return Double(item);
    case FieldDescriptor::CPPTYPE_STRING:
      return String(item);
    case FieldDescriptor::CPPTYPE_ENUM:
      return Enum(item);
    case FieldDescriptor::CPPTYPE_BOOL:
      if (!CheckSupported(item, item.json.boolean == item.field.default_value_bool())) return;
      reflection->SetBool(&item.parent, &item.field, item.json.boolean);
      return;
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (!item.field.is_repeated() && !CheckSupported(item, /*is_default=*/false)) return;
      return Object(item.json, item.path,
                    item.field.is_repeated() ? *reflection->AddMessage(&item.parent, &item.field)
                                             : *reflection->MutableMessage(&item.parent, &item.field));
    default:
      LOG(FATAL) << item.field.full_name() << ": the strict reader has no rule for its type";
  }
}

bool Walker::CheckKind(const Item& item) {
  if (item.json.kind == ExpectedKind(item.field)) return true;
  std::string message =
      absl::StrCat(ShortText(item.json), " is ", KindName(item.json.kind), "; expected ", ExpectedType(item.field));
  if (item.field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    absl::StrAppend(&message, ", one of ", absl::StrJoin(ValueNames(*item.field.enum_type(), false), ", "));
  }
  // Quoted numbers and booleans are the most common slip.
  double number;
  const std::string& text = item.json.literal;
  if (item.json.kind == JsonValue::Kind::kString &&
      ((ExpectedKind(item.field) == JsonValue::Kind::kNumber && absl::SimpleAtod(text, &number)) ||
       (ExpectedKind(item.field) == JsonValue::Kind::kBool && (text == "true" || text == "false")))) {
    absl::StrAppend(&message, "; write it without quotes");
  }
  Fail(item, message);
  return false;
}

bool Walker::CheckSupported(const Item& item, bool is_default) {
  if (!RuleOf(item.field).not_supported_yet()) return true;
  if (is_default && (item.field.has_default_value() || item.field.is_repeated())) return true;
  Fail(item, absl::StrCat(ShortText(item.json), " is not supported yet; leave the field out"));
  return false;
}

bool Walker::CheckRange(const Item& item, double value) {
  const config::FieldRule& rule = RuleOf(item.field);
  if (InRange(value, rule)) return true;
  Fail(item, absl::StrCat(ShortText(item.json), " is out of range; it must be ", RangeText(rule)));
  return false;
}

template <typename T, typename Setter, typename Adder>
void Walker::Store(const Item& item, const T& value, Setter set, Adder add) {
  const auto* reflection = item.parent.GetReflection();
  if (item.field.is_repeated()) {
    (reflection->*add)(&item.parent, &item.field, value);
  } else {
    (reflection->*set)(&item.parent, &item.field, value);
  }
}

void Walker::Integer(const Item& item) {
  if (!item.json.IsIntegerLiteral()) {
    const double value = item.json.number;
    const bool whole = std::abs(value) <= static_cast<double>(kMaxExactInteger) && value == std::trunc(value);
    return Fail(item, absl::StrCat(item.json.literal, " is not an integer",
                                   whole ? absl::StrCat("; write ", static_cast<int64_t>(value)) : ""));
  }
  int64_t value;
  if (!absl::SimpleAtoi(item.json.literal, &value) || value > kMaxExactInteger || value < -kMaxExactInteger) {
    return Fail(item,
                absl::StrCat(item.json.literal, " is beyond 2^53, where Jsonnet's numbers are not exact; it must be ",
                             RangeText(RuleOf(item.field))));
  }
  if (!CheckRange(item, static_cast<double>(value))) return;
  using google::protobuf::Reflection;
  if (item.field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64) {
    if (value < 0) return Fail(item, absl::StrCat(value, " is out of range; it must be at least 0"));
    const uint64_t unsigned_value = static_cast<uint64_t>(value);
    if (!CheckSupported(item, unsigned_value == item.field.default_value_uint64())) return;
    item.parent.GetReflection()->SetUInt64(&item.parent, &item.field, unsigned_value);
  } else {
    if (!CheckSupported(item, value == item.field.default_value_int64())) return;
    Store(item, value, &Reflection::SetInt64, &Reflection::AddInt64);
  }
}

void Walker::Double(const Item& item) {
  const double value = item.json.number;
  if (!CheckRange(item, value) || !CheckSupported(item, value == item.field.default_value_double())) return;
  using google::protobuf::Reflection;
  Store(item, value, &Reflection::SetDouble, &Reflection::AddDouble);
}

void Walker::String(const Item& item) {
  const std::string& value = item.json.literal;
  if (value.empty() && !item.field.is_repeated() && RuleOf(item.field).not_empty()) {
    return Fail(item, "\"\" is empty; it needs at least one character");
  }
  if (!item.field.is_repeated() && !CheckSupported(item, value == item.field.default_value_string())) return;
  const auto* reflection = item.parent.GetReflection();
  if (item.field.is_repeated()) {
    reflection->AddString(&item.parent, &item.field, value);
  } else {
    reflection->SetString(&item.parent, &item.field, value);
  }
}

void Walker::Enum(const Item& item) {
  const auto& type = *item.field.enum_type();
  for (int i = 0; i < type.value_count(); ++i) {
    const EnumValueDescriptor& value = *type.value(i);
    if (ConfigName(value).empty() || ConfigName(value) != item.json.literal) continue;
    if (!IsSupported(value)) {
      return Fail(item, absl::StrCat(ShortText(item.json), " is not supported yet; supported: ",
                                     absl::StrJoin(ValueNames(type, false), ", ")));
    }
    if (!CheckSupported(item, &value == item.field.default_value_enum())) return;
    return item.parent.GetReflection()->SetEnum(&item.parent, &item.field, &value);
  }
  const std::string near = Nearest(item.json.literal, ValueNames(type, true));
  Fail(item, absl::StrCat(ShortText(item.json), " is not one of ", absl::StrJoin(ValueNames(type, false), ", "),
                          near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
}

}  // namespace

void StrictWalk(const JsonValue& json, Message& message, ConfigErrors& errors) {
  Walker walker(*message.GetDescriptor(), errors);
  if (json.kind != JsonValue::Kind::kObject) return walker.NotAnObject(json, "");
  walker.Object(json, "", message);
}

}  // namespace titan
