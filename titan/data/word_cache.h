// Words seen before and their ids. Sharded, so that threads seldom wait for each other.

#ifndef TITAN_DATA_WORD_CACHE_H_
#define TITAN_DATA_WORD_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace titan {

class WordCache {
 public:
  // Appends the ids of `word`: those of the last time, or encode(word), a std::vector<int32_t>.
  template <typename Encode>
  void Append(std::string_view word, const Encode& encode, std::vector<int64_t>* ids) {
    const bool is_cached = word.size() <= kMaxWord;
    if (is_cached && Find(word, ids)) return;
    std::vector<int32_t> found = encode(word);
    ids->insert(ids->end(), found.begin(), found.end());
    if (is_cached) Add(word, std::move(found));
  }

 private:
  static constexpr size_t kMaxWord = 64;  // bytes; longer words seldom come again
  static constexpr size_t kShards = 64;
  static constexpr size_t kMaxWordsPerShard = 1 << 12;
  struct alignas(64) Shard {
    absl::Mutex mutex;
    absl::flat_hash_map<std::string, std::vector<int32_t>> words;
  };

  Shard& ShardOf(std::string_view word);
  bool Find(std::string_view word, std::vector<int64_t>* ids);
  void Add(std::string_view word, std::vector<int32_t> ids);

  std::array<Shard, kShards> shards_;
};

}  // namespace titan

#endif  // TITAN_DATA_WORD_CACHE_H_
