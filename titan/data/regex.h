// Regular expressions of a tokenizer.json. Hugging Face runs them in Oniguruma; here they are translated to PCRE2, and
// what the two engines understand differently is refused instead of guessed.
//
//   absl::StatusOr<Regex> regex = Regex::Compile(R"(\p{N}{1,3}|\s+(?!\S))");
//   absl::StatusOr<std::optional<Regex::Match>> match = regex->Find("abc 123", 0);  // {4, 7}

#ifndef TITAN_DATA_REGEX_H_
#define TITAN_DATA_REGEX_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace titan {

class Regex {
 public:
  struct Match {
    size_t begin;
    size_t end;
  };

  // InvalidArgument if the pattern is malformed or uses what is not supported.
  static absl::StatusOr<Regex> Compile(std::string_view pattern);

  // The leftmost match that starts at `from` or later. `text` must be UTF-8, and `from` the start of a character.
  // Look-arounds see all of `text` and nothing else. Thread-safe.
  absl::StatusOr<std::optional<Match>> Find(std::string_view text, size_t from) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}

  std::shared_ptr<const Code> code_;
};

// A pattern that matches `text` literally.
std::string QuoteRegex(std::string_view text);

}  // namespace titan

#endif  // TITAN_DATA_REGEX_H_
