#include "titan/data/word_cache.h"

#include <cstring>
#include <new>
#include <utility>

#include "absl/base/prefetch.h"

namespace titan {

void WordCache::Table::Add(const Entry* entry, uint64_t hash) {
  for (size_t i = 0; i < kMaxProbes; ++i) {
    Slot& slot = slots_[(hash + i) & mask_];
    if (slot.entry.load(std::memory_order_relaxed) != nullptr) continue;
    slot.hash.store(hash, std::memory_order_relaxed);
    slot.entry.store(entry, std::memory_order_release);
    return;
  }
}

void WordCache::Table::AddAll(const Table& table) {
  for (size_t i = 0; i < table.size(); ++i) {
    const Slot& slot = table.slots_[i];
    const Entry* const entry = slot.entry.load(std::memory_order_relaxed);
    if (entry != nullptr) Add(entry, slot.hash.load(std::memory_order_relaxed));
  }
}

const WordCache::Entry* WordCache::NewEntry(std::string_view word, absl::Span<const int64_t> ids) {
  const size_t bytes = sizeof(Entry) + ids.size() * sizeof(int32_t) + word.size();
  const size_t rounded = (bytes + alignof(Entry) - 1) / alignof(Entry) * alignof(Entry);
  if (rounded > kChunk) return nullptr;
  if (chunk_used_ + rounded > kChunk) {
    if ((chunks_.size() + 1) * kChunk > kMaxBytes) return nullptr;
    chunks_.push_back(std::make_unique_for_overwrite<char[]>(kChunk));
    chunk_used_ = 0;
  }
  char* memory = chunks_.back().get() + chunk_used_;
  chunk_used_ += rounded;
  const Entry* const entry = new (memory) Entry{static_cast<uint32_t>(ids.size()), static_cast<uint32_t>(word.size())};
  memory += sizeof(Entry);
  for (const int64_t id : ids) {
    new (memory) int32_t(static_cast<int32_t>(id));
    memory += sizeof(int32_t);
  }
  std::memcpy(memory, word.data(), word.size());
  return entry;
}

void WordCache::Prefetch(absl::Span<const std::string_view> words, std::array<uint64_t, kBatch>* hashes) const {
  const Table* const table = newest_.load(std::memory_order_acquire);
  for (size_t i = 0; i < words.size(); ++i) {
    (*hashes)[i] = words[i].size() <= kMaxWord ? absl::HashOf(words[i]) : 0;
    if (table != nullptr) absl::PrefetchToLocalCache(&table->FirstSlot((*hashes)[i]));
  }
  for (size_t i = 0; i < words.size() && table != nullptr; ++i) {
    absl::PrefetchToLocalCache(table->FirstSlot((*hashes)[i]).entry.load(std::memory_order_relaxed));
  }
}

void WordCache::Add(std::string_view word, uint64_t hash, absl::Span<const int64_t> ids) {
  // Frequent words come early: a full cache is kept as it is.
  if (is_full_.load(std::memory_order_relaxed)) return;
  absl::MutexLock lock(mutex_);
  // Another thread may have been faster.
  if (!tables_.empty() && tables_.back()->Find(word, hash) != nullptr) return;
  const Entry* const entry = num_words_ < kMaxWords ? NewEntry(word, ids) : nullptr;
  if (entry == nullptr) {
    is_full_.store(true, std::memory_order_relaxed);
    return;
  }
  ++num_words_;
  if (tables_.empty() || 2 * num_words_ > tables_.back()->size()) {
    auto table = std::make_unique<Table>(tables_.empty() ? kFirstTable : 2 * tables_.back()->size());
    if (!tables_.empty()) table->AddAll(*tables_.back());
    tables_.push_back(std::move(table));
  }
  tables_.back()->Add(entry, hash);
  newest_.store(tables_.back().get(), std::memory_order_release);
}

}  // namespace titan
