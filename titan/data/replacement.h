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
  std::string literal_;
  std::optional<Regex> regex_;
  std::string content_;
};

// Multiplies `*growth`, how many times as long the steps of a tokenizer.json so far can make a text, by that of one
// more. InvalidArgument beyond 1024: a few lines of such a file could fill the memory otherwise.
absl::Status GrowBy(int64_t factor, int64_t* growth);

}  // namespace titan

#endif  // TITAN_DATA_REPLACEMENT_H_
