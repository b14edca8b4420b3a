#include "titan/data/bpe.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <queue>
#include <tuple>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/byte_level.h"
#include "titan/data/json.h"

namespace titan {
namespace {

constexpr int64_t kMaxId = 1 << 24;
constexpr size_t kMaxShortWord = 48;
constexpr size_t kMaxCachedWord = 64;
constexpr size_t kMaxCachedWordsPerShard = 1 << 14;

uint64_t Key(int32_t left, int32_t right) { return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right); }

// Options of the BPE model that would change the result and are not there yet.
absl::Status CheckOptions(const nlohmann::json& model) {
  for (const char* option : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const nlohmann::json& value = Member(model, option);
    if (!value.is_null() && value != "") {
      return absl::InvalidArgumentError(absl::StrCat("not supported yet: BPE with \"", option, "\""));
    }
  }
  const nlohmann::json& dropout = Member(model, "dropout");
  if (!dropout.is_null() && dropout != 0) {
    return absl::InvalidArgumentError("not supported yet: BPE with \"dropout\"");
  }
  return absl::OkStatus();
}

// A merge is written as ["a", "b"] or "a b".
std::optional<std::pair<std::string, std::string>> ReadMerge(const nlohmann::json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {{merge[0].get<std::string>(), merge[1].get<std::string>()}};
  }
  if (!merge.is_string()) return std::nullopt;
  const std::string text = merge.get<std::string>();
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) return std::nullopt;
  return {{text.substr(0, space), text.substr(space + 1)}};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Bpe>> Bpe::FromJson(const nlohmann::json& model) {
  const std::string type = TypeOf(model);
  if (type != "BPE") return absl::InvalidArgumentError(absl::StrCat("not supported yet: the model \"", type, "\""));
  TITAN_RETURN_IF_ERROR(CheckOptions(model));
  std::unique_ptr<Bpe> bpe(new Bpe());
  TITAN_ASSIGN_OR_RETURN(bpe->ignore_merges_, BoolMember(model, "ignore_merges", false));
  TITAN_RETURN_IF_ERROR(bpe->ReadVocabulary(Member(model, "vocab")));
  TITAN_RETURN_IF_ERROR(bpe->ReadMerges(Member(model, "merges")));
  return bpe;
}

absl::Status Bpe::ReadVocabulary(const nlohmann::json& vocabulary) {
  if (!vocabulary.is_object()) return absl::InvalidArgumentError("model: \"vocab\" must be an object");
  vocabulary_.reserve(vocabulary.size());
  ids_.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= kMaxId) {
      return absl::InvalidArgumentError(absl::StrCat("model: the id of \"", token, "\" must be an integer below 2^24"));
    }
    vocabulary_.emplace_back(token, id.get<int32_t>());
    // A token outside of the byte alphabet can be decoded, and no text ever becomes it.
    if (std::optional<std::string> bytes = FromByteLevel(token)) ids_.emplace(*std::move(bytes), id.get<int32_t>());
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids_.find(std::string(1, static_cast<char>(byte)));
    if (found == ids_.end()) {
      return absl::InvalidArgumentError(absl::StrCat("not supported yet: a vocabulary without the byte 0x",
                                                     absl::Hex(byte, absl::kZeroPad2),
                                                     " (it would silently be lost); expected a byte-level vocabulary"));
    }
    byte_ids_[byte] = found->second;
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadMerges(const nlohmann::json& merges) {
  if (!merges.is_array()) return absl::InvalidArgumentError("model: \"merges\" must be a list");
  merges_.reserve(merges.size());
  int32_t rank = 0;
  for (const nlohmann::json& merge : merges) {
    const auto error = [&](std::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat("model: merge ", rank, " ", what));
    };
    const std::optional<std::pair<std::string, std::string>> pair = ReadMerge(merge);
    if (!pair.has_value()) return error("must be [\"a\", \"b\"] or \"a b\"");
    const std::optional<std::string> left = FromByteLevel(pair->first);
    const std::optional<std::string> right = FromByteLevel(pair->second);
    if (!left.has_value() || !right.has_value()) return error("is not of the byte-level alphabet");
    const auto left_id = ids_.find(*left);
    const auto right_id = ids_.find(*right);
    const auto result = ids_.find(*left + *right);
    if (left_id == ids_.end() || right_id == ids_.end() || result == ids_.end()) {
      return error(absl::StrCat("of \"", pair->first, "\" and \"", pair->second, "\" is not in the vocabulary"));
    }
    merges_[Key(left_id->second, right_id->second)] = {rank, result->second};  // of equals the last one counts
    ++rank;
  }
  return absl::OkStatus();
}

const Bpe::Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(Key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::Encode(std::string_view word, std::vector<int64_t>* ids) const {
  if (word.size() > kMaxCachedWord) {
    for (const int32_t id : EncodeUncached(word)) ids->push_back(id);
    return;
  }
  CacheShard& shard = cache_[absl::HashOf(word) % kCacheShards];
  {
    absl::MutexLock lock(shard.mutex);
    const auto found = shard.words.find(word);
    if (found != shard.words.end()) {
      ids->insert(ids->end(), found->second.begin(), found->second.end());
      return;
    }
  }
  std::vector<int32_t> symbols = EncodeUncached(word);
  ids->insert(ids->end(), symbols.begin(), symbols.end());
  absl::MutexLock lock(shard.mutex);
  // Frequent words come early: a full cache is kept as it is.
  if (shard.words.size() < kMaxCachedWordsPerShard) shard.words.emplace(word, std::move(symbols));
}

std::vector<int32_t> Bpe::EncodeUncached(std::string_view word) const {
  if (ignore_merges_) {
    const auto found = ids_.find(word);
    if (found != ids_.end()) return {found->second};
  }
  std::vector<int32_t> symbols;
  symbols.reserve(word.size());
  for (const char byte : word) symbols.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  word.size() <= kMaxShortWord ? MergeShort(&symbols) : MergeLong(&symbols);
  return symbols;
}

void Bpe::MergeShort(std::vector<int32_t>* symbols) const {
  constexpr Merge kNone = {std::numeric_limits<int32_t>::max(), -1};
  std::array<Merge, kMaxShortWord> merges;  // merges[i]: of symbols i and i + 1
  const auto look_up = [&](size_t i) {
    const Merge* merge = FindMerge((*symbols)[i], (*symbols)[i + 1]);
    return merge == nullptr ? kNone : *merge;
  };
  size_t size = symbols->size();
  for (size_t i = 0; i + 1 < size; ++i) merges[i] = look_up(i);
  while (size > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < size; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNone.rank) break;
    (*symbols)[best] = merges[best].result;
    symbols->erase(symbols->begin() + best + 1);
    std::copy(merges.begin() + best + 1, merges.begin() + size - 1, merges.begin() + best);
    --size;
    if (best > 0) merges[best - 1] = look_up(best - 1);
    if (best + 1 < size) merges[best] = look_up(best);
  }
}

void Bpe::MergeLong(std::vector<int32_t>* symbols) const {
  constexpr size_t kEnd = std::numeric_limits<size_t>::max();
  struct Link {
    size_t previous;
    size_t next;
  };
  std::vector<Link> links(symbols->size());
  for (size_t i = 0; i < links.size(); ++i) links[i] = {i == 0 ? kEnd : i - 1, i + 1 == links.size() ? kEnd : i + 1};

  // (rank, position, left, right): lowest rank first, then leftmost. An entry whose symbols have changed is stale.
  using Candidate = std::tuple<int32_t, size_t, int32_t, int32_t>;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<Candidate>> candidates;
  const auto add = [&](size_t i) {
    if (i == kEnd || links[i].next == kEnd) return;
    const int32_t left = (*symbols)[i];
    const int32_t right = (*symbols)[links[i].next];
    if (const Merge* merge = FindMerge(left, right)) candidates.emplace(merge->rank, i, left, right);
  };
  for (size_t i = 0; i < links.size(); ++i) add(i);
  while (!candidates.empty()) {
    const auto [rank, i, left, right] = candidates.top();
    candidates.pop();
    const size_t next = links[i].next;
    if ((*symbols)[i] != left || next == kEnd || (*symbols)[next] != right) continue;
    (*symbols)[i] = FindMerge(left, right)->result;
    (*symbols)[next] = -1;  // gone
    links[i].next = links[next].next;
    if (links[next].next != kEnd) links[links[next].next].previous = i;
    add(links[i].previous);
    add(i);
  }
  symbols->erase(std::remove(symbols->begin(), symbols->end(), -1), symbols->end());
}

}  // namespace titan
