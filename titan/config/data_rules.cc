#include "titan/config/data_rules.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr char kSynthetic[] = "synthetic";

// The lists of sources that are read, by the path of the list.
std::vector<std::pair<std::string, const google::protobuf::RepeatedPtrField<config::Source>*>> SourceLists(
    const config::Experiment& experiment) {
  std::vector<std::pair<std::string, const google::protobuf::RepeatedPtrField<config::Source>*>> lists = {
      {"data.sources", &experiment.data().sources()}};
  if (experiment.validation().enable()) lists.emplace_back("validation.sources", &experiment.validation().sources());
  return lists;
}

// The field by which a source holds out documents; empty if it does not.
std::string HoldoutField(const config::Source& source) {
  if (source.validation_split() > 0) return "validation_split";
  return source.validation_documents() > 0 ? "validation_documents" : "";
}

}  // namespace

void CorpusNames(const config::Experiment& experiment, ConfigErrors& errors) {
  for (const auto& [path, sources] : SourceLists(experiment)) {
    std::set<std::string> seen;
    for (int i = 0; i < sources->size(); ++i) {
      const std::string& name = (*sources)[i].corpus();
      const std::string field = absl::StrCat(path, ".", i, ".corpus");
      if (!seen.insert(name).second) {
        errors.Add(field, absl::StrCat("\"", name, "\" is a source already; name each corpus once"));
      }
      const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
        return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
      });
      if (!plain || absl::StartsWith(name, ".")) {
        errors.Add(field, absl::StrCat("\"", name,
                                       "\" is not a name of letters, digits, '_', '-' and '.'; "
                                       "the build target's `corpora` binds names to files"));
      }
    }
  }
}

void SyntheticIsAlone(const config::Experiment& experiment, ConfigErrors& errors) {
  for (const auto& [path, sources] : SourceLists(experiment)) {
    for (int i = 0; i < sources->size() && sources->size() > 1; ++i) {
      if ((*sources)[i].corpus() != kSynthetic) continue;
      errors.Add(absl::StrCat(path, ".", i, ".corpus"),
                 "\"synthetic\" must be the only source; random tokens do not mix with text");
    }
  }
}

void TextFieldOfJsonl(const config::Experiment& experiment, ConfigErrors& errors) {
  for (const auto& [path, sources] : SourceLists(experiment)) {
    for (int i = 0; i < sources->size(); ++i) {
      const config::Source& source = (*sources)[i];
      if (source.format() == config::Source::FORMAT_JSONL || source.text_field() == "text") continue;
      errors.Add(absl::StrCat(path, ".", i, ".text_field"),
                 absl::StrCat("\"", source.text_field(), "\" has no effect; only format \"jsonl\" has fields"));
    }
  }
}

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
