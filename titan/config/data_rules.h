// Rules about the data: which corpora, what of them is read, and in which order. Entries of the table in rules.cc.

#ifndef TITAN_CONFIG_DATA_RULES_H_
#define TITAN_CONFIG_DATA_RULES_H_

#include "titan/config/config_error.h"

namespace titan::config {
class Experiment;
}

namespace titan {

// Names that the build target's `corpora` can bind, each once.
void CorpusNames(const config::Experiment& experiment, ConfigErrors& errors);
// Random tokens do not mix with text.
void SyntheticIsAlone(const config::Experiment& experiment, ConfigErrors& errors);
// Other formats have no fields.
void TextFieldOfJsonl(const config::Experiment& experiment, ConfigErrors& errors);
// Documents are held out of data.sources that have documents, in one way, and for a validation that reads them.
void Holdouts(const config::Experiment& experiment, ConfigErrors& errors);
// There is something to shuffle.
void ShuffleWindow(const config::Experiment& experiment, ConfigErrors& errors);

}  // namespace titan

#endif  // TITAN_CONFIG_DATA_RULES_H_
