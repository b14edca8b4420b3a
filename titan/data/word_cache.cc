#include "titan/data/word_cache.h"

#include <utility>

#include "absl/hash/hash.h"

namespace titan {

WordCache::Shard& WordCache::ShardOf(std::string_view word) { return shards_[absl::HashOf(word) % kShards]; }

bool WordCache::Find(std::string_view word, std::vector<int64_t>* ids) {
  Shard& shard = ShardOf(word);
  absl::MutexLock lock(shard.mutex);
  const auto found = shard.words.find(word);
  if (found == shard.words.end()) return false;
  ids->insert(ids->end(), found->second.begin(), found->second.end());
  return true;
}

void WordCache::Add(std::string_view word, std::vector<int32_t> ids) {
  Shard& shard = ShardOf(word);
  absl::MutexLock lock(shard.mutex);
  // Frequent words come early: a full cache is kept as it is.
  if (shard.words.size() < kMaxWordsPerShard) shard.words.emplace(word, std::move(ids));
}

}  // namespace titan
