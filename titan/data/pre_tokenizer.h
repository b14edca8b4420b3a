// Cuts text into the words that a model sees one at a time: the `pre_tokenizer` of a tokenizer.json. Supported: Split
// (Isolated and Removed), Digits, WhitespaceSplit, one Metaspace, ByteLevel as the last one, Sequences of these, none.

#ifndef TITAN_DATA_PRE_TOKENIZER_H_
#define TITAN_DATA_PRE_TOKENIZER_H_

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "titan/data/metaspace.h"
#include "titan/data/regex.h"

namespace titan {

class PreTokenizer {
 public:
  static absl::StatusOr<PreTokenizer> FromJson(const nlohmann::json& json);

  // Replaces `*words` by the words of `text`, in order: parts of it, or of `*storage`, which is overwritten.
  // `at_start`: the text that is encoded begins with `text`. Thread-safe.
  absl::Status Split(std::string_view text, bool at_start, std::string* storage,
                     std::vector<std::string_view>* words) const;

  // It ends in ByteLevel: words are bytes to the model, not characters.
  bool is_byte_level() const { return is_byte_level_; }

  // What it does depends on `at_start`.
  bool needs_start() const { return needs_start_; }

 private:
  struct RegexSplit {
    Regex regex;
    bool keep_matches;  // false: matches are dropped
    bool keep_gaps;     // false: what lies between matches is dropped
  };
  struct WhiteSpaceSplit {};
  using Step = std::variant<RegexSplit, WhiteSpaceSplit, Metaspace>;

  absl::Status Add(const nlohmann::json& component);
  absl::Status AddRegex(std::string_view pattern, bool keep_matches, bool keep_gaps);
  absl::Status AddSplit(const nlohmann::json& component);
  absl::Status AddByteLevel(const nlohmann::json& component);
  absl::Status AddMetaspace(const nlohmann::json& component);

  std::vector<Step> steps_;
  bool is_byte_level_ = false;
  bool has_metaspace_ = false;
  bool needs_start_ = false;
};

}  // namespace titan

#endif  // TITAN_DATA_PRE_TOKENIZER_H_
