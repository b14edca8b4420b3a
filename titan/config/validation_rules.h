// Rules about validation. Entries of the table in rules.cc.

#ifndef TITAN_CONFIG_VALIDATION_RULES_H_
#define TITAN_CONFIG_VALIDATION_RULES_H_

#include "titan/config/config_error.h"

namespace titan::config {
class Experiment;
}

namespace titan {

// Something to read, of which an end comes where the whole is wanted.
void ValidationHasSources(const config::Experiment& experiment, ConfigErrors& errors);
// The mesh, the pipeline and float8 can cut the sequences of validation as they cut those of training.
void ValidationShapes(const config::Experiment& experiment, ConfigErrors& errors);

}  // namespace titan

#endif  // TITAN_CONFIG_VALIDATION_RULES_H_
