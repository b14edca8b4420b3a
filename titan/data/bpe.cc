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
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/byte_level.h"
#include "titan/data/json.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

constexpr int64_t kMaxId = 1 << 24;
constexpr size_t kMaxShortWord = 128;
constexpr std::string_view kSpace = "\u2581";  // as sentencepiece writes it

uint64_t Key(int32_t left, int32_t right) { return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right); }

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

absl::StatusOr<std::unique_ptr<Model>> Bpe::FromJson(const nlohmann::json& model, bool byte_level) {
  std::unique_ptr<Bpe> bpe(new Bpe(byte_level));
  TITAN_RETURN_IF_ERROR(bpe->ReadOptions(model));
  TITAN_RETURN_IF_ERROR(bpe->ReadVocabulary(Member(model, "vocab")));
  TITAN_RETURN_IF_ERROR(byte_level ? bpe->ReadBytes() : bpe->ReadUnknown(model));
  TITAN_RETURN_IF_ERROR(bpe->ReadMerges(Member(model, "merges")));
  return std::unique_ptr<Model>(std::move(bpe));
}

absl::Status Bpe::ReadOptions(const nlohmann::json& model) {
  const nlohmann::json& prefix = Member(model, "continuing_subword_prefix");
  if (!prefix.is_null() && prefix != "") {
    return absl::InvalidArgumentError("not supported yet: BPE with \"continuing_subword_prefix\"");
  }
  const nlohmann::json& dropout = Member(model, "dropout");
  if (!dropout.is_null() && dropout != 0) {
    return absl::InvalidArgumentError("not supported yet: BPE with \"dropout\"");
  }
  TITAN_ASSIGN_OR_RETURN(ignore_merges_, BoolMember(model, "ignore_merges", false));
  if (Member(model, "end_of_word_suffix").is_null()) return absl::OkStatus();
  TITAN_ASSIGN_OR_RETURN(const std::string suffix, StringMember(model, "end_of_word_suffix"));
  const std::optional<std::string> text = TextOf(suffix);
  if (!text.has_value()) {
    return absl::InvalidArgumentError("model: \"end_of_word_suffix\" is not of the byte-level alphabet");
  }
  suffix_ = *text;
  return absl::OkStatus();
}

std::optional<std::string> Bpe::TextOf(const std::string& token) const {
  if (!byte_level_) return token;
  return FromByteLevel(token);
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
    if (std::optional<std::string> text = TextOf(token)) ids_.emplace(*std::move(text), id.get<int32_t>());
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadBytes() {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    const auto inside = ids_.find(text);
    const auto last = ids_.find(text + suffix_);
    if (inside == ids_.end() || last == ids_.end()) {
      return absl::InvalidArgumentError(absl::StrCat("not supported yet: a vocabulary without the byte 0x",
                                                     absl::Hex(byte, absl::kZeroPad2),
                                                     " (it would silently be lost); expected a byte-level vocabulary"));
    }
    byte_ids_[byte] = inside->second;
    last_byte_ids_[byte] = last->second;
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadUnknown(const nlohmann::json& model) {
  TITAN_ASSIGN_OR_RETURN(byte_fallback_, BoolMember(model, "byte_fallback", false));
  TITAN_ASSIGN_OR_RETURN(fuse_unknown_, BoolMember(model, "fuse_unk", false));
  bool has_all_bytes = byte_fallback_;
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids_.find(ByteFallbackToken(byte));
    fallback_ids_[byte] = found == ids_.end() ? -1 : found->second;
    has_all_bytes &= found != ids_.end();
  }
  for (int c = 0; c < 128; ++c) {
    const auto found = ids_.find(std::string(1, static_cast<char>(c)));
    ascii_ids_[c] = found == ids_.end() ? -1 : found->second;
  }
  if (!Member(model, "unk_token").is_null()) {
    TITAN_ASSIGN_OR_RETURN(const std::string unknown, StringMember(model, "unk_token"));
    const auto found = ids_.find(unknown);
    if (found == ids_.end()) {
      return absl::InvalidArgumentError(absl::StrCat("model: \"vocab\" lacks the unk_token \"", unknown, "\""));
    }
    unknown_id_ = found->second;
  } else if (!has_all_bytes) {
    return absl::InvalidArgumentError(
        "not supported yet: a vocabulary of characters with neither \"unk_token\" nor a byte fallback for all bytes "
        "(unknown characters would silently be lost)");
  }
  if (!ignore_merges_ && suffix_.empty()) {
    // With a fallback for all bytes no character is unknown, and none waits for what comes behind a newline.
    const int32_t newline_id = ascii_ids_['\n'] < 0 && has_all_bytes ? fallback_ids_['\n'] : ascii_ids_['\n'];
    cuts_at_newlines_ = newline_id >= 0 && newline_id != unknown_id_;
    newline_id_ = newline_id;
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadMerges(const nlohmann::json& merges) {
  if (!merges.is_array()) return absl::InvalidArgumentError("model: \"merges\" must be a list");
  absl::flat_hash_map<uint64_t, Merge> found;
  found.reserve(merges.size());
  const auto space = ids_.find(kSpace);
  cuts_at_spaces_ =
      !byte_level_ && !ignore_merges_ && suffix_.empty() && space != ids_.end() && space->second != unknown_id_;
  int32_t rank = 0;
  for (const nlohmann::json& merge : merges) {
    const auto error = [&](std::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat("model: merge ", rank, " ", what));
    };
    const std::optional<std::pair<std::string, std::string>> pair = ReadMerge(merge);
    if (!pair.has_value()) return error("must be [\"a\", \"b\"] or \"a b\"");
    const std::optional<std::string> left = TextOf(pair->first);
    const std::optional<std::string> right = TextOf(pair->second);
    if (!left.has_value() || !right.has_value()) return error("is not of the byte-level alphabet");
    const auto left_id = ids_.find(*left);
    const auto right_id = ids_.find(*right);
    const auto result = ids_.find(*left + *right);
    if (left_id == ids_.end() || right_id == ids_.end() || result == ids_.end()) {
      return error(absl::StrCat("of \"", pair->first, "\" and \"", pair->second, "\" is not in the vocabulary"));
    }
    if (absl::StartsWith(*right, kSpace) && !absl::EndsWith(*left, kSpace)) cuts_at_spaces_ = false;
    if (left_id->second == newline_id_ || right_id->second == newline_id_) cuts_at_newlines_ = false;
    found[Key(left_id->second, right_id->second)] = {rank, result->second};  // of equals the last one counts
    ++rank;
  }
  BuildMergeTable(found);
  stops_[static_cast<unsigned char>(kSpace[0])] = cuts_at_spaces_;
  stops_['\n'] = cuts_at_newlines_;
  return absl::OkStatus();
}

void Bpe::BuildMergeTable(const absl::flat_hash_map<uint64_t, Merge>& merges) {
  size_t size = 64;
  while (size < 2 * merges.size()) size *= 2;
  merges_.assign(size, {});
  may_merge_.assign(size / 4, 0);
  for (const auto& [key, merge] : merges) {
    const size_t hash = absl::HashOf(key);
    may_merge_[hash / 64 % may_merge_.size()] |= uint64_t{1} << hash % 64;
    size_t i = hash & (size - 1);
    while (merges_[i].key != kNoMerge) i = (i + 1) & (size - 1);
    merges_[i] = {key, merge};
  }
}

const Bpe::Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  const uint64_t key = Key(left, right);
  const size_t hash = absl::HashOf(key);
  if ((may_merge_[hash / 64 & (may_merge_.size() - 1)] >> hash % 64 & 1) == 0) return nullptr;
  const size_t mask = merges_.size() - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    if (merges_[i].key == key) return &merges_[i].merge;
    if (merges_[i].key == kNoMerge) return nullptr;
  }
}

void Bpe::Encode(absl::Span<const std::string_view> words, std::vector<int64_t>* ids) const {
  const auto encode = [this](std::string_view word, std::vector<int64_t>* ids) { EncodeUncached(word, ids); };
  if (!cuts_at_spaces_ && !cuts_at_newlines_) return cache_.Append(words, encode, ids);
  // Without a pre-tokenizer a whole text is one word, too long for the cache and slow to merge.
  std::vector<std::string_view> parts;
  size_t bytes = 0;
  for (const std::string_view word : words) bytes += word.size();
  parts.reserve(bytes / 4);
  for (std::string_view word : words) {
    while (!word.empty()) {
      parts.push_back(word.substr(0, EndOfPart(word)));
      word.remove_prefix(parts.back().size());
    }
  }
  cache_.Append(parts, encode, ids);
}

size_t Bpe::EndOfPart(std::string_view word) const {
  size_t end = 0;
  while (cuts_at_newlines_ && end < word.size() && word[end] == '\n') ++end;
  if (end > 0) return end;
  while (cuts_at_spaces_ && absl::StartsWith(word.substr(end), kSpace)) end += kSpace.size();
  for (; end < word.size(); ++end) {
    if (!stops_[static_cast<unsigned char>(word[end])]) continue;
    if (word[end] == '\n' || absl::StartsWith(word.substr(end), kSpace)) break;
  }
  return end;
}

void Bpe::EncodeUncached(std::string_view word, std::vector<int64_t>* ids) const {
  if (ignore_merges_) {
    const auto found = ids_.find(word);
    if (found != ids_.end()) {
      ids->push_back(found->second);
      return;
    }
  }
  Symbols symbols = byte_level_ ? BytesOf(word) : CharactersOf(word);
  symbols.size() <= kMaxShortWord ? MergeShort(&symbols) : MergeLong(&symbols);
  ids->insert(ids->end(), symbols.begin(), symbols.end());
}

Bpe::Symbols Bpe::BytesOf(std::string_view word) const {
  Symbols symbols;
  symbols.reserve(word.size());
  for (const char byte : word) symbols.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  // In the byte-level alphabet a byte is a character: the suffix belongs to the last byte.
  symbols.back() = last_byte_ids_[static_cast<unsigned char>(word.back())];
  return symbols;
}

Bpe::Symbols Bpe::CharactersOf(std::string_view word) const {
  Symbols symbols;
  symbols.reserve(word.size());
  bool unknown_waits = false;  // for more unknown characters that may fuse with it
  const auto flush = [&] {
    if (unknown_waits) symbols.push_back(unknown_id_);
    unknown_waits = false;
  };
  std::string with_suffix;
  for (size_t begin = 0; begin < word.size();) {
    const auto lead = static_cast<unsigned char>(word[begin]);
    if (lead < 0x80 && ascii_ids_[lead] >= 0 && suffix_.empty()) {
      flush();
      symbols.push_back(ascii_ids_[lead]);
      ++begin;
      continue;
    }
    const size_t end = begin + Utf8Length(lead);
    std::string_view character = word.substr(begin, end - begin);
    begin = end;
    if (end == word.size() && !suffix_.empty()) {
      with_suffix = absl::StrCat(character, suffix_);
      character = with_suffix;
    }
    const auto found = ids_.find(character);
    if (found != ids_.end()) {
      flush();
      symbols.push_back(found->second);
      continue;
    }
    const auto has_id = [&](char byte) { return fallback_ids_[static_cast<unsigned char>(byte)] >= 0; };
    if (byte_fallback_ && std::all_of(character.begin(), character.end(), has_id)) {
      // As Hugging Face does: an unknown character before these bytes comes after them.
      for (const char byte : character) symbols.push_back(fallback_ids_[static_cast<unsigned char>(byte)]);
      continue;
    }
    if (!fuse_unknown_) flush();
    unknown_waits = true;
  }
  flush();
  return symbols;
}

void Bpe::MergeShort(Symbols* symbols) const {
  constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();
  const size_t size = symbols->size();
  int32_t* const ids = symbols->data();
  // By symbol: its merge with the next one as rank << 32 | symbol, so that the least one is to be done first; what
  // comes of it; and its neighbours, for symbols that are gone stay in their places.
  std::array<uint64_t, kMaxShortWord> order;
  std::array<int32_t, kMaxShortWord> results;
  std::array<uint32_t, kMaxShortWord> next;
  std::array<uint32_t, kMaxShortWord> previous;
  const auto look_up = [&](size_t i) {
    const Merge* const merge = next[i] == size ? nullptr : FindMerge(ids[i], ids[next[i]]);
    order[i] = merge == nullptr ? kNone : static_cast<uint64_t>(merge->rank) << 32 | i;
    if (merge != nullptr) results[i] = merge->result;
  };
  for (size_t i = 0; i < size; ++i) {
    next[i] = static_cast<uint32_t>(i + 1);
    previous[i] = static_cast<uint32_t>(i - 1);  // of the first one: not looked at
    look_up(i);
  }
  const size_t padded = (size + 3) / 4 * 4;
  std::fill(order.begin() + size, order.begin() + padded, kNone);
  while (true) {
    // Four at a time, and each without a branch.
    uint64_t least0 = kNone, least1 = kNone, least2 = kNone, least3 = kNone;
    for (size_t i = 0; i < padded; i += 4) {
      const uint64_t order0 = order[i], order1 = order[i + 1], order2 = order[i + 2], order3 = order[i + 3];
      least0 = order0 < least0 ? order0 : least0;
      least1 = order1 < least1 ? order1 : least1;
      least2 = order2 < least2 ? order2 : least2;
      least3 = order3 < least3 ? order3 : least3;
    }
    const uint64_t first = std::min(std::min(least0, least1), std::min(least2, least3));
    if (first == kNone) break;
    const auto best = static_cast<uint32_t>(first);
    ids[best] = results[best];
    const size_t gone = next[best];
    order[gone] = kNone;
    next[best] = next[gone];
    if (next[best] < size) previous[next[best]] = best;
    if (best > 0) look_up(previous[best]);
    look_up(best);
  }
  size_t kept = 0;
  for (size_t i = 0; i < size; i = next[i]) ids[kept++] = ids[i];
  symbols->resize(kept);
}

void Bpe::MergeLong(Symbols* symbols) const {
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
