// Words to ids: the `model` of a tokenizer.json.

#ifndef TITAN_DATA_MODEL_H_
#define TITAN_DATA_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"

namespace titan {

class Model {
 public:
  virtual ~Model() = default;

  // `byte_level`: the vocabulary is written in the byte-level alphabet, and words are raw bytes.
  static absl::StatusOr<std::unique_ptr<Model>> FromJson(const nlohmann::json& model, bool byte_level);

  // Appends the ids of `words`, none of which is empty. Thread-safe; words that come again are looked up.
  virtual void Encode(absl::Span<const std::string_view> words, std::vector<int64_t>* ids) const = 0;

  // The vocabulary as it is written in the file, with its ids.
  const std::vector<std::pair<std::string, int32_t>>& vocabulary() const { return vocabulary_; }

 protected:
  std::vector<std::pair<std::string, int32_t>> vocabulary_;
};

// How a vocabulary writes a byte that no other token covers: "<0x0A>".
std::string ByteFallbackToken(unsigned char byte);

}  // namespace titan

#endif  // TITAN_DATA_MODEL_H_
