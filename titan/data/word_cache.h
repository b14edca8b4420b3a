// Words seen before and their ids. Readers never wait: entries are written once, then published, and never change.

#ifndef TITAN_DATA_WORD_CACHE_H_
#define TITAN_DATA_WORD_CACHE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/hash/hash.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

namespace titan {

class WordCache {
 public:
  WordCache() = default;
  WordCache(const WordCache&) = delete;
  WordCache& operator=(const WordCache&) = delete;

  // Appends the ids of `words`: of each those of the last time, or what encode(word, ids) appends.
  template <typename Encode>
  void Append(absl::Span<const std::string_view> words, const Encode& encode, std::vector<int64_t>* ids) {
    std::array<uint64_t, kBatch> hashes;
    while (!words.empty()) {
      const absl::Span<const std::string_view> batch = words.subspan(0, kBatch);
      Prefetch(batch, &hashes);
      for (size_t i = 0; i < batch.size(); ++i) AppendWord(batch[i], hashes[i], encode, ids);
      words.remove_prefix(batch.size());
    }
  }

 private:
  static constexpr size_t kMaxWord = 128;  // bytes; longer words seldom come again
  static constexpr size_t kMaxWords = 1 << 18;
  static constexpr size_t kMaxBytes = 64 << 20;  // of all entries
  static constexpr size_t kChunk = 1 << 16;      // bytes that are allocated at once
  static constexpr size_t kFirstTable = 1 << 8;
  static constexpr size_t kMaxProbes = 32;
  static constexpr size_t kBatch = 16;  // words that are fetched from memory at once

  // What the ids, and behind them the word, follow in memory.
  struct Entry {
    uint32_t num_ids;
    uint32_t word_size;

    const int32_t* ids() const { return reinterpret_cast<const int32_t*>(this + 1); }
    std::string_view word() const { return {reinterpret_cast<const char*>(ids() + num_ids), word_size}; }
  };

  // `hash` is valid where `entry` is not null.
  struct Slot {
    std::atomic<uint64_t> hash;
    std::atomic<const Entry*> entry;
  };

  // Open addressing, at most half full, without deletion.
  class Table {
   public:
    explicit Table(size_t size) : mask_(size - 1), slots_(std::make_unique<Slot[]>(size)) {}

    const Entry* Find(std::string_view word, uint64_t hash) const {
      for (size_t i = 0; i < kMaxProbes; ++i) {
        const Slot& slot = slots_[(hash + i) & mask_];
        const Entry* const entry = slot.entry.load(std::memory_order_acquire);
        if (entry == nullptr) return nullptr;
        if (slot.hash.load(std::memory_order_relaxed) == hash && entry->word() == word) return entry;
      }
      return nullptr;
    }

    const Slot& FirstSlot(uint64_t hash) const { return slots_[hash & mask_]; }

    // One thread at a time. A word whose places are all taken is left out.
    void Add(const Entry* entry, uint64_t hash);
    // Adds all that `table` has.
    void AddAll(const Table& table);
    size_t size() const { return mask_ + 1; }

   private:
    const size_t mask_;
    const std::unique_ptr<Slot[]> slots_;
  };

  // Hashes `words`, and asks the processor for what the cache has of them, so that it need not wait for one after
  // another.
  void Prefetch(absl::Span<const std::string_view> words, std::array<uint64_t, kBatch>* hashes) const;

  template <typename Encode>
  void AppendWord(std::string_view word, uint64_t hash, const Encode& encode, std::vector<int64_t>* ids) {
    if (word.size() > kMaxWord) return encode(word, ids);
    const Table* const table = newest_.load(std::memory_order_acquire);
    if (const Entry* const entry = table == nullptr ? nullptr : table->Find(word, hash)) {
      ids->insert(ids->end(), entry->ids(), entry->ids() + entry->num_ids);
      return;
    }
    const size_t before = ids->size();
    encode(word, ids);
    Add(word, hash, absl::MakeConstSpan(*ids).subspan(before));
  }

  void Add(std::string_view word, uint64_t hash, absl::Span<const int64_t> ids);
  // nullptr if there is no room.
  const Entry* NewEntry(std::string_view word, absl::Span<const int64_t> ids) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::atomic<const Table*> newest_ = nullptr;
  std::atomic<bool> is_full_ = false;
  absl::Mutex mutex_;  // of those who add
  // Readers may still be in a table that has grown too small; each is half of the next one.
  std::vector<std::unique_ptr<Table>> tables_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<char[]>> chunks_ ABSL_GUARDED_BY(mutex_);
  size_t chunk_used_ ABSL_GUARDED_BY(mutex_) = kChunk;
  size_t num_words_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace titan

#endif  // TITAN_DATA_WORD_CACHE_H_
