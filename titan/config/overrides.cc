#include "titan/config/overrides.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "titan/config/schema.h"

namespace titan {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

bool TakesText(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_STRING || field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM;
}

JsonValue Text(std::string text) {
  JsonValue value;
  value.kind = JsonValue::Kind::kString;
  value.literal = std::move(text);
  return value;
}

// Marks a value and all in it as coming from `text`.
void Mark(const std::string& text, JsonValue& value) {
  value.override_text = text;
  for (JsonValue& element : value.elements) Mark(text, element);
  for (auto& [name, member] : value.members) Mark(text, member);
}

// The value as the field will want it: "20" and "true" stay strings in a string field.
JsonValue ParseValue(const std::string& text, const FieldDescriptor* field, bool whole_list) {
  absl::StatusOr<JsonValue> value = ParseJsonValue(text);
  const bool takes_text = field != nullptr && TakesText(*field) && !whole_list;
  if (!value.ok() || (takes_text && value->kind != JsonValue::Kind::kString)) return Text(text);
  return *std::move(value);
}

// Walks down to where the value belongs, making objects on the way.
class Path {
 public:
  Path(const std::string& text, JsonValue& root, const Descriptor& type, ConfigErrors& errors)
      : text_(text), node_(&root), type_(&type), root_type_(type), errors_(errors) {}

  // The place of `components`, or null after adding an error.
  JsonValue* Descend(const std::vector<std::string>& components) {
    for (const std::string& component : components) {
      const bool found = in_list_ ? StepIntoList(component) : StepIntoObject(component);
      if (!found) return nullptr;
    }
    return node_;
  }
  const FieldDescriptor* field() const { return field_; }
  bool is_whole_list() const { return in_list_; }

 private:
  bool Fail(std::string message) {
    errors_.Add(done_, std::move(message), text_);
    return false;
  }

  bool StepIntoObject(const std::string& name) {
    const std::string parent = std::exchange(done_, JoinPath(done_, name));
    if (type_ == nullptr) return Fail(absl::StrCat(parent, " is not a group of fields"));
    field_ = type_->FindFieldByName(name);
    if (field_ == nullptr) return Fail(absl::StrCat("unknown field", UnknownFieldHint(name, *type_, root_type_)));
    if (node_->kind != JsonValue::Kind::kObject) {
      *node_ = JsonValue();
      node_->kind = JsonValue::Kind::kObject;
    }
    JsonValue* member = node_->Find(name);
    if (member == nullptr) member = &node_->members.emplace_back(name, JsonValue()).second;
    node_ = member;
    type_ = field_->message_type();
    in_list_ = field_->is_repeated();
    return true;
  }

  bool StepIntoList(const std::string& component) {
    done_ = JoinPath(done_, component);
    size_t index;
    if (!absl::SimpleAtoi(component, &index) || index >= node_->elements.size()) {
      return Fail(absl::StrCat("no such element; the list has ", node_->elements.size(), ", counted from 0"));
    }
    node_ = &node_->elements[index];
    in_list_ = false;
    return true;
  }

  const std::string& text_;
  JsonValue* node_;
  const Descriptor* type_;  // of node_; null when it is no message
  const Descriptor& root_type_;
  ConfigErrors& errors_;
  const FieldDescriptor* field_ = nullptr;
  bool in_list_ = false;  // node_ is a list
  std::string done_;
};

}  // namespace

void ApplyOverride(const std::string& text, const Descriptor& type, JsonValue& root, ConfigErrors& errors) {
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos) {
    errors.Add(text.substr(0, equals), "not of the form path=value, such as training.steps=20", text);
    return;
  }
  JsonValue changed = root;  // So that a path that fails half way leaves nothing behind.
  Path path(text, changed, type, errors);
  JsonValue* place = path.Descend(absl::StrSplit(text.substr(0, equals), '.'));
  if (place == nullptr) return;
  *place = ParseValue(text.substr(equals + 1), path.field(), path.is_whole_list());
  Mark(text, *place);
  root = std::move(changed);
}

}  // namespace titan
