// Words seen before and their ids. Sharded, so that threads seldom wait for each other.

#ifndef TITAN_DATA_WORD_CACHE_H_
#define TITAN_DATA_WORD_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace titan {

class WordCache {
 public:
  static constexpr size_t kMaxWord = 64;  // bytes; longer words seldom come again

  // Appends the ids of `word`; false if it is not there.
  bool Find(std::string_view word, std::vector<int64_t>* ids);

  void Add(std::string_view word, std::vector<int32_t> ids);

 private:
  static constexpr size_t kShards = 64;
  static constexpr size_t kMaxWordsPerShard = 1 << 12;
  struct alignas(64) Shard {
    absl::Mutex mutex;
    absl::flat_hash_map<std::string, std::vector<int32_t>> words;
  };

  Shard& ShardOf(std::string_view word);

  std::array<Shard, kShards> shards_;
};

}  // namespace titan

#endif  // TITAN_DATA_WORD_CACHE_H_
