// "Replace" of a tokenizer.json, a normalizer and a decoder: every match of a pattern becomes another text.

#ifndef TITAN_DATA_REPLACEMENT_H_
#define TITAN_DATA_REPLACEMENT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "titan/data/regex.h"

namespace titan {

// The regular expression that a component's "pattern" stands for: {"Regex": ...} or {"String": ...}.
absl::StatusOr<std::string> PatternOf(const nlohmann::json& component);

class Replacement {
 public:
  static absl::StatusOr<Replacement> FromJson(const nlohmann::json& component);

  // `text` with all matches replaced; an error only if a regular expression gives up.
  absl::StatusOr<std::string> Apply(std::string_view text) const;

  // The pattern is {"String": ...}: `Apply` has no errors.
  bool is_literal() const { return !regex_.has_value(); }

  // How many times as long it can make a text.
  int64_t growth() const;

 private:
  // A character that is matched as often as it stands in a row, at least `min` times: the regular expression " {2,}".
  struct Run {
    char character;
    size_t min;
  };

  // The run that `expression` matches; nullopt if it is of another kind.
  static std::optional<Run> RunOf(std::string_view expression);
  std::string ReplaceLiteral(std::string_view text) const;
  std::string ReplaceByte(std::string_view text) const;
  std::string ReplaceRuns(std::string_view text) const;

  std::string literal_;
  std::optional<Regex> regex_;
  std::optional<Run> run_;  // what `regex_` matches, if that is all there is to it
  std::string content_;
};

// Multiplies `*growth`, how many times as long the steps of a tokenizer.json so far can make a text, by that of one
// more. InvalidArgument beyond 1024: a few lines of such a file could fill the memory otherwise.
absl::Status GrowBy(int64_t factor, int64_t* growth);

}  // namespace titan

#endif  // TITAN_DATA_REPLACEMENT_H_
