// Command-line overrides: `training.steps=20`, `optimizer.decay_type=cosine`, `data.sources.0.corpus=docs`.

#ifndef TITAN_CONFIG_OVERRIDES_H_
#define TITAN_CONFIG_OVERRIDES_H_

#include <string>

#include "google/protobuf/descriptor.h"
#include "titan/config/config_error.h"
#include "titan/config/json_value.h"

namespace titan {

// Puts the value of `text` ("path=value") into `root`, in front of the strict walk, which then judges it like any
// other. The value is JSON; what is not JSON is a string where `type` (of `root`) has a string or an enum, so that
// quotes can be left out. Path components are field names, and 0-based indices of existing list elements.
void ApplyOverride(const std::string& text, const google::protobuf::Descriptor& type, JsonValue& root,
                   ConfigErrors& errors);

}  // namespace titan

#endif  // TITAN_CONFIG_OVERRIDES_H_
