// An Experiment as JSON that the strict reader reads back to the same Experiment.

#ifndef TITAN_CONFIG_RESOLVED_JSON_H_
#define TITAN_CONFIG_RESOLVED_JSON_H_

#include <string>
#include <utility>
#include <vector>

namespace titan::config {
class Experiment;
}

namespace titan {

// All set fields, in the order of experiment.proto, indented by two spaces; ends with a newline.
std::string ResolvedJson(const config::Experiment& experiment);

// The same as (path, JSON value) pairs: ("optimizer.lr", "0.0003"). Empty lists have the value "[]".
std::vector<std::pair<std::string, std::string>> FlattenFields(const config::Experiment& experiment);

}  // namespace titan

#endif  // TITAN_CONFIG_RESOLVED_JSON_H_
