// Tokens to text: the `decoder` of a tokenizer.json. Supported: ByteLevel, Metaspace, Replace (of a string),
// ByteFallback, Fuse, Strip, and Sequences of these.

#ifndef TITAN_DATA_DECODER_H_
#define TITAN_DATA_DECODER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace titan {

class Decoder {
 public:
  static absl::StatusOr<Decoder> FromJson(const nlohmann::json& json);

  // The text of `tokens`, each as it is written in the vocabulary. Always UTF-8. Thread-safe.
  std::string Decode(std::vector<std::string> tokens) const;

 private:
  using Step = std::function<void(std::vector<std::string>*)>;

  absl::Status Add(const nlohmann::json& component);
  absl::Status AddReplace(const nlohmann::json& component);
  absl::Status AddStrip(const nlohmann::json& component);

  std::vector<Step> steps_;
  int64_t growth_ = 1;  // see GrowBy
};

}  // namespace titan

#endif  // TITAN_DATA_DECODER_H_
