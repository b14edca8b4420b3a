// The unigram language model of sentencepiece (https://arxiv.org/abs/1804.10959, 3.2): a word becomes the sequence of
// tokens whose scores, log probabilities, have the greatest sum.

#ifndef TITAN_DATA_UNIGRAM_H_
#define TITAN_DATA_UNIGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "titan/data/model.h"
#include "titan/data/word_cache.h"

namespace titan {

class Unigram : public Model {
 public:
  static absl::StatusOr<std::unique_ptr<Model>> FromJson(const nlohmann::json& model);

  void Encode(absl::Span<const std::string_view> words, std::vector<int64_t>* ids) const override;

 private:
  // A part of a word.
  struct Part {
    size_t begin;
    size_t end;
    int32_t id;  // unknown_id_: characters that no token covers, as many as there are in a row
  };
  using Parts = absl::InlinedVector<Part, 32>;

  Unigram() = default;
  absl::Status ReadVocabulary(const nlohmann::json& vocabulary);

  // Of the tree of all tokens. Its children lie side by side, in the order of their bytes.
  struct Node {
    double score = 0;  // of the token that ends here
    int32_t id = -1;   // of the token that ends here; -1: none
    uint32_t first_child = 0;
    uint32_t num_children = 0;
  };

  void BuildTree();
  // The node below `node` along `byte`; nullptr if there is none.
  const Node* Child(const Node& node, unsigned char byte) const;

  // The best path, by Viterbi's algorithm, as its parts from the last one.
  Parts BestParts(std::string_view word) const;
  void EncodeUncached(std::string_view word, std::vector<int64_t>* ids) const;
  // Of characters that no token covers.
  void EncodeUnknown(std::string_view text, std::vector<int64_t>* ids) const;

  std::vector<double> scores_;                          // by id
  absl::flat_hash_map<std::string_view, int32_t> ids_;  // by token; points into vocabulary_
  std::vector<Node> nodes_;                             // breadth first
  std::string labels_;                                  // by node: the byte that leads to it
  double unknown_score_ = 0;
  int32_t unknown_id_ = 0;
  std::array<int32_t, 256> fallback_ids_;  // of bytes, if there is such a fallback, -1 where the vocabulary has none
  mutable WordCache cache_;
};

}  // namespace titan

#endif  // TITAN_DATA_UNIGRAM_H_
