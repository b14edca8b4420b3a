// Tokens that are cut out of a text before anything else looks at it, such as <|end_of_text|>: the `added_tokens` of a
// tokenizer.json. The leftmost one is cut out first, the longest if several start there.

#ifndef TITAN_DATA_ADDED_TOKENS_H_
#define TITAN_DATA_ADDED_TOKENS_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace titan {

struct AddedToken {
  int32_t id;
  std::string content;
  bool special;
  bool normalized;  // looked for after normalisation, in what the others left
  bool lstrip;      // takes the white space before it along
  bool rstrip;      // takes the white space after it along
};

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const nlohmann::json& json);

// Finds a set of added tokens in text.
class AddedTokenFinder {
 public:
  struct Piece {
    std::string_view text;
    int32_t id;  // of an added token; -1 for other text
  };

  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);

  // Appends the pieces of `text`, in order.
  void Split(std::string_view text, std::vector<Piece>* pieces) const;

 private:
  // Where in `text`, from `from` on, a token could start; the size of `text` if nowhere.
  size_t NextStart(std::string_view text, size_t from) const;
  // The longest token that starts at the beginning of `text`; nullptr if none does.
  const AddedToken* LongestPrefix(std::string_view text) const;

  std::array<bool, 256> starts_ = {};  // bytes that some token begins with
  std::string start_bytes_;            // the same as a list
  std::vector<AddedToken> tokens_;
  std::vector<int32_t> token_at_;                    // by node of the tree of all tokens: into tokens_, or -1
  absl::flat_hash_map<uint64_t, int32_t> children_;  // by node << 8 | byte
};

}  // namespace titan

#endif  // TITAN_DATA_ADDED_TOKENS_H_
