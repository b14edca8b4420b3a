// The unigram language model of sentencepiece (https://arxiv.org/abs/1804.10959, 3.2): a word becomes the sequence of
// tokens whose scores, log probabilities, have the greatest sum.

#ifndef TITAN_DATA_UNIGRAM_H_
#define TITAN_DATA_UNIGRAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "titan/data/model.h"
#include "titan/data/word_cache.h"

namespace titan {

class Unigram : public Model {
 public:
  static absl::StatusOr<std::unique_ptr<Model>> FromJson(const nlohmann::json& model);

  void Encode(std::string_view word, std::vector<int64_t>* ids) const override;

 private:
  // A part of a word.
  struct Part {
    size_t begin;
    size_t end;
    bool is_known;  // false: characters that no token covers, as many as there are in a row
  };

  Unigram() = default;
  absl::Status ReadVocabulary(const nlohmann::json& vocabulary);

  // The best path, by Viterbi's algorithm.
  std::vector<Part> BestParts(std::string_view word) const;
  std::vector<int32_t> EncodeUncached(std::string_view word) const;

  // The node below `node` along `byte`; -1 if there is none.
  int32_t Child(int32_t node, unsigned char byte) const;

  std::vector<double> scores_;                          // by id
  absl::flat_hash_map<std::string_view, int32_t> ids_;  // by token; points into vocabulary_
  std::vector<int32_t> token_at_;                       // by node of the tree of all tokens; -1 where none ends
  absl::flat_hash_map<uint64_t, int32_t> children_;     // by node << 8 | byte
  double unknown_score_ = 0;
  int32_t unknown_id_ = 0;
  bool byte_fallback_ = false;
  mutable WordCache cache_;
};

}  // namespace titan

#endif  // TITAN_DATA_UNIGRAM_H_
