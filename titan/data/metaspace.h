// "Metaspace" of a tokenizer.json, sentencepiece's way with spaces: each becomes a visible character (U+2581), and so
// does the beginning of a text or of a word. Both a pre-tokenizer and a decoder.

#ifndef TITAN_DATA_METASPACE_H_
#define TITAN_DATA_METASPACE_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace titan {

class Metaspace {
 public:
  static absl::StatusOr<Metaspace> FromJson(const nlohmann::json& component);

  // Appends `word` as the model sees it to `*text`. `at_start`: the whole text begins with it.
  void Replace(std::string_view word, bool at_start, std::string* text) const;

  // Appends the parts of a word that `Replace` gave: a new one begins with each replacement, if the component says so.
  void Split(std::string_view word, std::vector<std::string_view>* words) const;

  // Spaces for replacements; those of the first token are dropped, unless nothing is ever prepended.
  void Decode(std::vector<std::string>* tokens) const;

  // What it does depends on whether a word begins the text.
  bool needs_start() const { return scheme_ == Scheme::kFirst; }

 private:
  enum class Scheme { kAlways, kFirst, kNever };

  std::string replacement_;
  Scheme scheme_ = Scheme::kAlways;
  bool split_ = true;
};

}  // namespace titan

#endif  // TITAN_DATA_METASPACE_H_
