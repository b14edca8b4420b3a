#include "titan/config/data_rules.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr char kSynthetic[] = "synthetic";

// The field by which a source holds out documents; empty if it does not.
std::string HoldoutField(const config::Source& source) {
  if (source.validation_split() > 0) return "validation_split";
  return source.validation_documents() > 0 ? "validation_documents" : "";
}

}  // namespace

void Holdouts(const config::Experiment& experiment, ConfigErrors& errors) {
  const config::Validation& validation = experiment.validation();
  for (int i = 0; i < experiment.data().sources_size(); ++i) {
    const config::Source& source = experiment.data().sources(i);
    const std::string field = HoldoutField(source);
    if (field.empty()) continue;
    const std::string path = absl::StrCat("data.sources.", i, ".", field);
    if (source.validation_split() > 0 && source.validation_documents() > 0) {
      errors.Add(path, absl::StrCat("is ", source.validation_split(), ", but validation_documents is ",
                                    source.validation_documents(), "; leave one of them out"));
    }
    if (source.corpus() == kSynthetic) errors.Add(path, "\"synthetic\" has no documents to hold out");
    if (validation.enable() && !validation.sources().empty()) {
      errors.Add(path,
                 "nobody would read what is held out, because validation.sources says what validation reads; leave "
                 "one of them out");
    }
  }
  for (int i = 0; i < validation.sources_size(); ++i) {
    const std::string field = HoldoutField(validation.sources(i));
    if (field.empty()) continue;
    errors.Add(absl::StrCat("validation.sources.", i, ".", field),
               "only data.sources hold out documents; set it there and leave validation.sources out");
  }
}

void ShuffleWindow(const config::Experiment& experiment, ConfigErrors& errors) {
  const config::Data& data = experiment.data();
  if (data.shuffle_window() == 0) return;
  if (!data.shuffle()) {
    errors.Add("data.shuffle_window", "has no effect; set data.shuffle = true too, or leave it out");
  }
  for (const config::Source& source : data.sources()) {
    if (source.corpus() != kSynthetic) continue;
    errors.Add("data.shuffle_window", "has no effect on \"synthetic\", which is random anyway; leave it out");
  }
}

}  // namespace titan
