#include "titan/config/schema.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/base/nearest.h"
#include "titan/config/config_error.h"

namespace titan {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;

// The paths of all fields called `name`. The schema is a tree: no message contains itself.
void FindPaths(std::string_view name, const Descriptor& type, const std::string& path,
               std::vector<std::string>& found) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_repeated() && field.message_type() != nullptr) continue;
    const std::string field_path = JoinPath(path, field.name());
    if (field.name() == name) found.push_back(field_path);
    if (field.message_type() != nullptr) FindPaths(name, *field.message_type(), field_path, found);
  }
}

}  // namespace

const config::FieldRule& RuleOf(const FieldDescriptor& field) { return field.options().GetExtension(config::rule); }

const std::string& ConfigName(const EnumValueDescriptor& value) {
  return value.options().GetExtension(config::value).name();
}

bool IsSupported(const EnumValueDescriptor& value) {
  return !value.options().GetExtension(config::value).not_supported_yet();
}

std::vector<std::string> FieldNames(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.emplace_back(type.field(i)->name());
  return names;
}

std::vector<std::string> ValueNames(const EnumDescriptor& type, bool with_unsupported) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    const EnumValueDescriptor& value = *type.value(i);
    if (ConfigName(value).empty() || (!with_unsupported && !IsSupported(value))) continue;
    names.push_back(ConfigName(value));
  }
  return names;
}

std::string UnknownFieldHint(std::string_view name, const Descriptor& type, const Descriptor& root) {
  if (const std::string near = Nearest(name, FieldNames(type)); !near.empty()) {
    return absl::StrCat("; did you mean ", near, "?");
  }
  constexpr size_t kMaxElsewhere = 3;
  std::vector<std::string> elsewhere;
  FindPaths(name, root, "", elsewhere);
  if (!elsewhere.empty() && elsewhere.size() <= kMaxElsewhere) {
    return absl::StrCat("; did you mean ", absl::StrJoin(elsewhere, " or "), "?");
  }
  return absl::StrCat("; known fields: ", absl::StrJoin(FieldNames(type), ", "));
}

}  // namespace titan
