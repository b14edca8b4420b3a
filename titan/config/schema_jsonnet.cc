#include "titan/config/schema_jsonnet.h"

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/number_text.h"
#include "titan/config/schema.h"

namespace titan {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

std::string DefaultText(const FieldDescriptor& field) {
  if (!field.has_default_value()) return "null";
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(field.default_value_int64());
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(field.default_value_uint64());
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return ShortestDouble(field.default_value_double());
    case FieldDescriptor::CPPTYPE_BOOL:
      return field.default_value_bool() ? "true" : "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return absl::StrCat("'", ConfigName(*field.default_value_enum()), "'");
    default:
      return absl::StrCat("'", field.default_value_string(), "'");
  }
}

std::string GroupText(const Descriptor& type, const std::string& indent) {
  std::string text = "{\n";
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    std::string value;
    if (field.message_type() != nullptr) {
      value = GroupText(*field.message_type(), indent + "  ");
      if (field.is_repeated()) value = absl::StrCat("[", value, "]");
    } else {
      value = field.is_repeated() ? "[]" : DefaultText(field);
    }
    absl::StrAppend(&text, indent, "  ", field.name(), ": ", value, ",\n");
  }
  return absl::StrCat(text, indent, "}");
}

}  // namespace

std::string SchemaJsonnet() {
  return absl::StrCat(
      "// Every field of titan/config/experiment.proto with its default; null where it has none. Generated:\n"
      "//   ./bazelw run //tools:experiment_config -- schema --out experiments/lib/schema.libsonnet\n",
      GroupText(*config::Experiment::descriptor(), ""), "\n");
}

}  // namespace titan
