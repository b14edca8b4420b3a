#include "titan/config/resolved_json.h"

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "nlohmann/json.hpp"
#include "titan/config/config_error.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/number_text.h"
#include "titan/config/schema.h"

namespace titan {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::string Quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// A value that is no message; `index` is -1 for singular fields.
std::string ScalarText(const Message& message, const FieldDescriptor& field, int index) {
  const auto* reflection = message.GetReflection();
  const bool single = index < 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(single ? reflection->GetInt64(message, &field)
                                 : reflection->GetRepeatedInt64(message, &field, index));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(reflection->GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return ShortestDouble(single ? reflection->GetDouble(message, &field)
                                   : reflection->GetRepeatedDouble(message, &field, index));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(message, &field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_STRING:
      return Quoted(single ? reflection->GetString(message, &field)
                           : reflection->GetRepeatedString(message, &field, index));
    case FieldDescriptor::CPPTYPE_ENUM:
      return Quoted(ConfigName(*reflection->GetEnum(message, &field)));
    default:
      LOG(FATAL) << field.full_name() << ": no JSON for its type";
  }
}

// Calls a Visitor for every set field in declaration order. Lists that are empty count as set.
template <typename Visitor>
void VisitFields(const Message& message, Visitor&& visit) {
  const auto& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_repeated() || message.GetReflection()->HasField(message, &field)) visit(field);
  }
}

std::string MessageText(const Message& message, const std::string& indent);

std::string ListText(const Message& message, const FieldDescriptor& field, const std::string& indent) {
  const auto* reflection = message.GetReflection();
  std::string text;
  for (int i = 0; i < reflection->FieldSize(message, &field); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ",
                    field.message_type() == nullptr
                        ? ScalarText(message, field, i)
                        : MessageText(reflection->GetRepeatedMessage(message, &field, i), indent));
  }
  return absl::StrCat("[", text, "]");
}

std::string MessageText(const Message& message, const std::string& indent) {
  const std::string inner = indent + "  ";
  std::string text;
  VisitFields(message, [&](const FieldDescriptor& field) {
    absl::StrAppend(&text, text.empty() ? "" : ",", "\n", inner, Quoted(std::string(field.name())), ": ");
    if (field.is_repeated()) {
      text += ListText(message, field, inner);
    } else if (field.message_type() != nullptr) {
      text += MessageText(message.GetReflection()->GetMessage(message, &field), inner);
    } else {
      text += ScalarText(message, field, -1);
    }
  });
  return text.empty() ? "{}" : absl::StrCat("{", text, "\n", indent, "}");
}

void Flatten(const Message& message, const std::string& path,
             std::vector<std::pair<std::string, std::string>>& fields) {
  const auto* reflection = message.GetReflection();
  VisitFields(message, [&](const FieldDescriptor& field) {
    const std::string field_path = JoinPath(path, field.name());
    if (!field.is_repeated()) {
      if (field.message_type() != nullptr) return Flatten(reflection->GetMessage(message, &field), field_path, fields);
      fields.emplace_back(field_path, ScalarText(message, field, -1));
      return;
    }
    const int size = reflection->FieldSize(message, &field);
    if (size == 0) fields.emplace_back(field_path, "[]");
    for (int i = 0; i < size; ++i) {
      const std::string element_path = JoinPath(field_path, absl::StrCat(i));
      if (field.message_type() != nullptr) {
        Flatten(reflection->GetRepeatedMessage(message, &field, i), element_path, fields);
      } else {
        fields.emplace_back(element_path, ScalarText(message, field, i));
      }
    }
  });
}

}  // namespace

std::string ResolvedJson(const config::Experiment& experiment) { return MessageText(experiment, "") + "\n"; }

std::vector<std::pair<std::string, std::string>> FlattenFields(const config::Experiment& experiment) {
  std::vector<std::pair<std::string, std::string>> fields;
  Flatten(experiment, "", fields);
  return fields;
}

}  // namespace titan
