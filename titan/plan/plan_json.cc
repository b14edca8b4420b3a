#include <string>

#include "absl/log/log.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "nlohmann/json.hpp"
#include "titan/plan/plan.h"

namespace titan {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Json = nlohmann::json;

Json ToJson(const Message& message);

Json SingularToJson(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.GetInt64(message, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(reflection.GetMessage(message, &field));
    default:
      LOG(FATAL) << "plan.proto has a field of a type that plan_json.cc does not write: " << field.full_name();
  }
}

Json RepeatedToJson(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  Json list = Json::array();
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      list.push_back(reflection.GetRepeatedString(message, &field, i));
    } else {
      list.push_back(ToJson(reflection.GetRepeatedMessage(message, &field, i)));
    }
  }
  return list;
}

// Protobuf's own JSON writes 64-bit integers as strings, which no spreadsheet or jq user expects.
Json ToJson(const Message& message) {
  Json object = Json::object();
  const google::protobuf::Descriptor& descriptor = *message.GetDescriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor& field = *descriptor.field(i);
    const std::string name(field.name());
    if (field.is_repeated()) {
      object[name] = RepeatedToJson(message, field);
    } else if (message.GetReflection()->HasField(message, &field)) {
      object[name] = SingularToJson(message, field);
    }
  }
  return object;
}

}  // namespace

std::string PlanJson(const plan::Plan& plan) { return ToJson(plan).dump(2) + "\n"; }

}  // namespace titan
