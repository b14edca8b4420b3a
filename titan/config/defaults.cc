#include "titan/config/defaults.h"

#include "absl/log/log.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/schema.h"

namespace titan {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void SetDefault(const FieldDescriptor& field, Message& message) {
  const auto* reflection = message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection->SetInt64(&message, &field, field.default_value_int64());
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection->SetUInt64(&message, &field, field.default_value_uint64());
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection->SetDouble(&message, &field, field.default_value_double());
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->SetBool(&message, &field, field.default_value_bool());
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection->SetEnum(&message, &field, field.default_value_enum());
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection->SetString(&message, &field, std::string(field.default_value_string()));
    default:
      LOG(FATAL) << field.full_name() << ": no rule for defaults of its type";
  }
}

void FillDeclaredDefaults(Message& message) {
  const auto* reflection = message.GetReflection();
  const auto& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const bool is_message = field.message_type() != nullptr;
    if (field.is_repeated()) {
      for (int j = 0; is_message && j < reflection->FieldSize(message, &field); ++j) {
        FillDeclaredDefaults(*reflection->MutableRepeatedMessage(&message, &field, j));
      }
    } else if (is_message) {
      if (RuleOf(field).optional() && !reflection->HasField(message, &field)) continue;
      FillDeclaredDefaults(*reflection->MutableMessage(&message, &field));
    } else if (field.has_default_value() && !reflection->HasField(message, &field)) {
      SetDefault(field, message);
    }
  }
}

}  // namespace

void FillDefaults(config::Experiment& experiment) {
  FillDeclaredDefaults(experiment);
  config::Model& model = *experiment.mutable_model();
  if (model.has_n_heads()) {
    if (!model.has_n_kv_heads()) model.set_n_kv_heads(model.n_heads());
    // Where it does not divide, head_dim stays unset and a rule says so.
    if (!model.has_head_dim() && model.dim() % model.n_heads() == 0) model.set_head_dim(model.dim() / model.n_heads());
  }
  if (!experiment.lr_scheduler().has_total_steps()) {
    experiment.mutable_lr_scheduler()->set_total_steps(experiment.training().steps());
  }
}

}  // namespace titan
