// What is done to a text before it is cut into words: the `normalizer` of a tokenizer.json. Supported: NFC, NFD, NFKC,
// NFKD, Precompiled, Lowercase, Strip, Prepend, Replace, and Sequences of these.

#ifndef TITAN_DATA_NORMALIZER_H_
#define TITAN_DATA_NORMALIZER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace titan {

class Normalizer {
 public:
  static absl::StatusOr<Normalizer> FromJson(const nlohmann::json& json);

  // The normalized text, which lives in `text` or in `*storage`. Thread-safe.
  absl::StatusOr<std::string_view> Normalize(std::string_view text, std::string* storage) const;

  bool empty() const { return steps_.empty(); }

 private:
  using Step = std::function<absl::StatusOr<std::string>(std::string_view)>;

  absl::Status Add(const nlohmann::json& component);
  absl::Status AddPrecompiled(const nlohmann::json& component);

  std::vector<Step> steps_;
  int64_t growth_ = 1;  // see GrowBy
};

}  // namespace titan

#endif  // TITAN_DATA_NORMALIZER_H_
