// The schema for Jsonnet: what experiments/lib/strict.libsonnet knows of field names.

#ifndef TITAN_CONFIG_SCHEMA_JSONNET_H_
#define TITAN_CONFIG_SCHEMA_JSONNET_H_

#include <string>

namespace titan {

// The text of experiments/lib/schema.libsonnet, generated from experiment.proto: every field with its default, null
// where it has none; a list of groups holds one element, the group's fields.
std::string SchemaJsonnet();

}  // namespace titan

#endif  // TITAN_CONFIG_SCHEMA_JSONNET_H_
