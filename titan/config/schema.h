// What the strict reader knows of the Experiment beside its types: the rules of options.proto, names of enum values,
// and which field a misspelt name may have meant.

#ifndef TITAN_CONFIG_SCHEMA_H_
#define TITAN_CONFIG_SCHEMA_H_

#include <string>
#include <string_view>
#include <vector>

#include "google/protobuf/descriptor.h"
#include "titan/config/options.pb.h"

namespace titan {

const config::FieldRule& RuleOf(const google::protobuf::FieldDescriptor& field);

// How the value is written in a configuration: "AdamW" for NAME_ADAMW. Empty for values that cannot be written.
const std::string& ConfigName(const google::protobuf::EnumValueDescriptor& value);
bool IsSupported(const google::protobuf::EnumValueDescriptor& value);

// The names of the fields, as declared.
std::vector<std::string> FieldNames(const google::protobuf::Descriptor& type);

// The names that a configuration can write for the enum. Those that no engine part honours yet only on request.
std::vector<std::string> ValueNames(const google::protobuf::EnumDescriptor& type, bool with_unsupported);

// What to add to "unknown field" for `name` in `type`: "; did you mean weight_decay?", a field of that name in another
// group of `root`, or else the list of known fields.
std::string UnknownFieldHint(std::string_view name, const google::protobuf::Descriptor& type,
                             const google::protobuf::Descriptor& root);

}  // namespace titan

#endif  // TITAN_CONFIG_SCHEMA_H_
