// Byte-pair encoding of single words: the `model` of a byte-level tokenizer.json.

#ifndef TITAN_DATA_BPE_H_
#define TITAN_DATA_BPE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "nlohmann/json.hpp"

namespace titan {

class Bpe {
 public:
  static absl::StatusOr<std::unique_ptr<Bpe>> FromJson(const nlohmann::json& model);

  // Appends the ids of `word` (raw bytes, at least one): merges the neighbours of lowest rank, the leftmost first,
  // until none is left. Thread-safe; words that come again are looked up.
  void Encode(std::string_view word, std::vector<int64_t>* ids) const;

  // The vocabulary as it is written in the file, with its ids.
  const std::vector<std::pair<std::string, int32_t>>& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    int32_t rank;
    int32_t result;
  };
  // Words seen before. Sharded, so that threads seldom wait for each other.
  struct CacheShard {
    absl::Mutex mutex;
    absl::flat_hash_map<std::string, std::vector<int32_t>> words;
  };
  static constexpr size_t kCacheShards = 16;

  Bpe() = default;
  absl::Status ReadVocabulary(const nlohmann::json& vocabulary);
  absl::Status ReadMerges(const nlohmann::json& merges);

  // nullptr if the two do not merge.
  const Merge* FindMerge(int32_t left, int32_t right) const;
  std::vector<int32_t> EncodeUncached(std::string_view word) const;
  void MergeShort(std::vector<int32_t>* symbols) const;  // O(n^2), fastest for words
  void MergeLong(std::vector<int32_t>* symbols) const;   // O(n log n)

  bool ignore_merges_ = false;  // a word that is in the vocabulary is one token, whatever the merges say
  std::vector<std::pair<std::string, int32_t>> vocabulary_;
  absl::flat_hash_map<std::string, int32_t> ids_;  // by raw bytes
  std::array<int32_t, 256> byte_ids_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by left << 32 | right
  mutable std::array<CacheShard, kCacheShards> cache_;
};

}  // namespace titan

#endif  // TITAN_DATA_BPE_H_
