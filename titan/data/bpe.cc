#include "titan/data/bpe.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <queue>
#include <tuple>
#include <utility>

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
constexpr size_t kMaxShortWord = 48;
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
    newline_id_ = ascii_ids_['\n'] != unknown_id_ ? ascii_ids_['\n'] : -1;
    // With a fallback for all bytes no character is unknown, and none waits for what comes behind a newline.
    if (ascii_ids_['\n'] < 0 && has_all_bytes) newline_id_ = fallback_ids_['\n'];
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadMerges(const nlohmann::json& merges) {
  if (!merges.is_array()) return absl::InvalidArgumentError("model: \"merges\" must be a list");
  merges_.reserve(merges.size());
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
    if (left_id->second == newline_id_ || right_id->second == newline_id_) newline_id_ = -1;
    merges_[Key(left_id->second, right_id->second)] = {rank, result->second};  // of equals the last one counts
    ++rank;
  }
  stops_[static_cast<unsigned char>(kSpace[0])] = cuts_at_spaces_;
  stops_['\n'] = newline_id_ >= 0;
  return absl::OkStatus();
}

const Bpe::Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(Key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::Encode(std::string_view word, std::vector<int64_t>* ids) const {
  // Without a pre-tokenizer a whole text is one word, too long for the cache and slow to merge.
  while (!word.empty()) {
    if (word[0] == '\n' && newline_id_ >= 0) {
      ids->push_back(newline_id_);
      word.remove_prefix(1);
      continue;
    }
    const std::string_view part = word.substr(0, EndOfPart(word));
    cache_.Append(part, [this](std::string_view word, std::vector<int64_t>* ids) { EncodeUncached(word, ids); }, ids);
    word.remove_prefix(part.size());
  }
}

size_t Bpe::EndOfPart(std::string_view word) const {
  size_t end = 0;
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
