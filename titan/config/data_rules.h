// Rules about what of a corpus is read, and in which order. Entries of the table in rules.cc.

#ifndef TITAN_CONFIG_DATA_RULES_H_
#define TITAN_CONFIG_DATA_RULES_H_

#include "titan/config/config_error.h"

namespace titan::config {
class Experiment;
}

namespace titan {

// Documents are held out of data.sources that have documents, in one way, and for a validation that reads them.
void Holdouts(const config::Experiment& experiment, ConfigErrors& errors);
// There is something to shuffle.
void ShuffleWindow(const config::Experiment& experiment, ConfigErrors& errors);

}  // namespace titan

#endif  // TITAN_CONFIG_DATA_RULES_H_
