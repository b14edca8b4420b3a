// Cuts text into the words that a model sees one at a time: the `pre_tokenizer` of a tokenizer.json. Supported: Split
// (Isolated and Removed), Digits, ByteLevel as the last one, and Sequences of these.

#ifndef TITAN_DATA_PRE_TOKENIZER_H_
#define TITAN_DATA_PRE_TOKENIZER_H_

#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "titan/data/regex.h"

namespace titan {

class PreTokenizer {
 public:
  static absl::StatusOr<PreTokenizer> FromJson(const nlohmann::json& json);

  // The words of `text`, parts of it, in order. Thread-safe.
  absl::StatusOr<std::vector<std::string_view>> Split(std::string_view text) const;

 private:
  struct Step {
    Regex regex;
    bool keep_matches;  // false: matches are dropped
    bool keep_gaps;     // false: what lies between matches is dropped
  };

  absl::Status Add(const nlohmann::json& component);
  absl::Status AddRegex(std::string_view pattern, bool keep_matches, bool keep_gaps);
  absl::Status AddSplit(const nlohmann::json& component);
  absl::Status AddByteLevel(const nlohmann::json& component);

  std::vector<Step> steps_;
  bool is_byte_level_ = false;
};

}  // namespace titan

#endif  // TITAN_DATA_PRE_TOKENIZER_H_
