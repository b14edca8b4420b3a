// Fills a message from JSON by walking both, so that nothing is guessed: names exactly as in the .proto file, types
// exactly as declared (no "8" for 8, no 8.0, no null), no duplicates, enum values by their configuration name, ranges
// and required fields by the rules in options.proto. (protobuf's own JSON parser is too forgiving.)
//
//   ConfigErrors errors;
//   config::Experiment experiment;
//   StrictWalk(json, experiment, errors);

#ifndef TITAN_CONFIG_STRICT_WALK_H_
#define TITAN_CONFIG_STRICT_WALK_H_

#include "google/protobuf/message.h"
#include "titan/config/config_error.h"
#include "titan/config/json_value.h"

namespace titan {

// Sets what `json` holds in `message` and adds everything that is wrong with it to `errors`; faulty fields stay unset.
void StrictWalk(const JsonValue& json, google::protobuf::Message& message, ConfigErrors& errors);

}  // namespace titan

#endif  // TITAN_CONFIG_STRICT_WALK_H_
