// Rules about the optimizer. Entries of the table in rules.cc.

#ifndef TITAN_CONFIG_OPTIMIZER_RULES_H_
#define TITAN_CONFIG_OPTIMIZER_RULES_H_

#include "titan/config/config_error.h"

namespace titan::config {
class Experiment;
}

namespace titan {

// An average that bfloat16 keeps has to move.
void StateInBfloat16(const config::Experiment& experiment, ConfigErrors& errors);
// No settings of AdamW for Muon.
void MuonGroups(const config::Experiment& experiment, ConfigErrors& errors);

}  // namespace titan

#endif  // TITAN_CONFIG_OPTIMIZER_RULES_H_
