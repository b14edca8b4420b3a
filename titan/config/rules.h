// What must hold between fields. Rules of one field alone (type, range, required) are options in experiment.proto.

#ifndef TITAN_CONFIG_RULES_H_
#define TITAN_CONFIG_RULES_H_

#include <string>
#include <string_view>
#include <vector>

#include "titan/config/config_error.h"

namespace titan::config {
class Experiment;
}

namespace titan {

struct Rule {
  std::string_view name;
  // The paths of the fields that it reads, between spaces. It is not asked when one of them has an error already.
  std::string reads;
  // Adds an error for each violation, at the field that a user would change. Defaults are filled in.
  void (*check)(const config::Experiment& experiment, ConfigErrors& errors);
};

// All rules, each a small function in rules.cc.
const std::vector<Rule>& CrossFieldRules();

// Asks every rule that reads no field with one of the `known` errors, and adds what it finds to `violations`.
void CheckRules(const config::Experiment& experiment, const ConfigErrors& known, ConfigErrors& violations);

}  // namespace titan

#endif  // TITAN_CONFIG_RULES_H_
