#include "titan/data/precompiled.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/grapheme.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

// Longer keys replace nothing.
constexpr size_t kMaxChunk = 5;

absl::Status Damaged(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("Precompiled: \"precompiled_charsmap\" ", what));
}

uint64_t Pack(std::string_view key) {
  uint64_t packed = key.size();
  for (const char byte : key) packed = packed << 8 | static_cast<unsigned char>(byte);
  return packed;
}

uint32_t ReadUint32(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// A node of the tree, and where its children are: the one along a byte is at `position ^ byte`, if its label is that
// byte.
class Unit {
 public:
  explicit Unit(uint32_t bits) : bits_(bits) {}

  bool has_leaf() const { return (bits_ >> 8 & 1) != 0; }
  uint32_t value() const { return bits_ & 0x7FFFFFFF; }
  uint32_t label() const { return bits_ & 0x800000FF; }
  size_t offset() const { return static_cast<size_t>(bits_ >> 10) << ((bits_ & (1 << 9)) >> 6); }

 private:
  uint32_t bits_;
};

// Finds all keys of up to kMaxChunk bytes that no shorter key begins.
class TreeReader {
 public:
  struct Key {
    std::string text;
    size_t value;
  };

  explicit TreeReader(std::string_view units) : units_(units) {}

  absl::StatusOr<std::vector<Key>> Read() {
    if (num_units() == 0) return Damaged("has no tree");
    TITAN_RETURN_IF_ERROR(Visit(At(0).offset()));
    return std::move(keys_);
  }

 private:
  size_t num_units() const { return units_.size() / 4; }
  Unit At(size_t i) const { return Unit(ReadUint32(units_.substr(4 * i, 4))); }

  // `position`: the node's own, moved by its offset.
  absl::Status Visit(size_t position) {
    for (uint32_t byte = 1; byte < 256; ++byte) {
      const size_t child = position ^ byte;
      if (child >= num_units() || At(child).label() != byte) continue;
      if (++visited_ > num_units()) return Damaged("is no tree");
      prefix_.push_back(static_cast<char>(byte));
      const size_t behind = child ^ At(child).offset();
      if (At(child).has_leaf()) {
        if (behind >= num_units()) return Damaged("points outside of its tree");
        keys_.push_back({prefix_, At(behind).value()});
      } else if (prefix_.size() < kMaxChunk) {
        TITAN_RETURN_IF_ERROR(Visit(behind));
      }
      prefix_.pop_back();
    }
    return absl::OkStatus();
  }

  const std::string_view units_;
  std::string prefix_;
  size_t visited_ = 0;
  std::vector<Key> keys_;
};

// Letters that a virama joins to the one before it, to one cluster with what follows (rule GB9c of Unicode 15.1). These
// are the ones whose cluster could be short without it, and which sentencepiece decomposes.
bool IsJoinedByVirama(std::string_view before, std::string_view cluster) {
  constexpr std::string_view kViramas[] = {"\u094D", "\u09CD", "\u0B4D"};
  if (std::none_of(std::begin(kViramas), std::end(kViramas),
                   [&](std::string_view virama) { return absl::EndsWith(before, virama); })) {
    return false;
  }
  size_t offset = 0;
  const char32_t c = NextCodePoint(cluster, &offset);
  return (c >= 0x958 && c <= 0x95F) || c == 0x9DC || c == 0x9DD || c == 0x9DF || c == 0xB5C || c == 0xB5D;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Precompiled>> Precompiled::Parse(std::string_view charsmap) {
  if (charsmap.size() < 4) return Damaged("is empty");
  const size_t tree_bytes = ReadUint32(charsmap) / 4 * 4;
  charsmap.remove_prefix(4);
  if (tree_bytes > charsmap.size()) return Damaged("is cut off");
  std::shared_ptr<Precompiled> result(new Precompiled());
  result->replacements_ = std::string(charsmap.substr(tree_bytes));
  if (FindInvalidUtf8(result->replacements_).has_value()) return Damaged("has replacements that are not UTF-8");
  TITAN_RETURN_IF_ERROR(result->ReadKeys(charsmap.substr(0, tree_bytes)));
  result->FindPlainBytes();
  return result;
}

absl::Status Precompiled::ReadKeys(std::string_view units) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<TreeReader::Key> keys, TreeReader(units).Read());
  keys_.reserve(keys.size());
  for (const TreeReader::Key& key : keys) TITAN_RETURN_IF_ERROR(AddKey(key.text, key.value));
  return absl::OkStatus();
}

absl::Status Precompiled::AddKey(const std::string& key, size_t value) {
  const bool is_inside = value <= replacements_.size();
  if (!is_inside || (value < replacements_.size() && (replacements_[value] & 0xC0) == 0x80)) {
    return Damaged("points outside of its replacements");
  }
  const std::string_view rest = std::string_view(replacements_).substr(value);
  const std::string_view replacement = rest.substr(0, rest.find('\0'));
  keys_.emplace(Pack(key), replacement);
  lengths_[static_cast<unsigned char>(key[0])] |= 1 << key.size();
  growth_ = std::max<int64_t>(growth_, (replacement.size() + key.size() - 1) / key.size());
  return absl::OkStatus();
}

std::optional<std::string_view> Precompiled::Find(std::string_view chunk) const {
  const uint8_t lengths = lengths_[static_cast<unsigned char>(chunk[0])];
  for (size_t length = 1; length <= chunk.size(); ++length) {
    if ((lengths >> length & 1) == 0) continue;
    const auto found = keys_.find(Pack(chunk.substr(0, length)));
    if (found != keys_.end()) return found->second;
  }
  return std::nullopt;
}

void Precompiled::FindPlainBytes() {
  ascii_.fill(-1);
  for (int byte = 0; byte < 0x80; ++byte) {
    if (byte == '\r') continue;  // may begin a cluster of two
    const std::string character(1, static_cast<char>(byte));
    const std::string_view replacement = Find(character).value_or(character);
    if (replacement.size() == 1) ascii_[byte] = static_cast<unsigned char>(replacement[0]);
  }
}

size_t Precompiled::AppendPlainBytes(std::string_view text, std::string* out) const {
  size_t size = 0;
  while (size < text.size() && ascii_[static_cast<unsigned char>(text[size])] >= 0) ++size;
  // What is not ASCII may belong to the byte before it.
  if (size > 0 && size < text.size() && static_cast<unsigned char>(text[size]) >= 0x80) --size;
  const size_t begin = out->size();
  out->append(text.substr(0, size));
  for (size_t i = begin; i < out->size(); ++i) {
    (*out)[i] = static_cast<char>(ascii_[static_cast<unsigned char>((*out)[i])]);
  }
  return size;
}

void Precompiled::AppendCharacters(std::string_view characters, std::string* out) const {
  while (!characters.empty()) {
    const std::string_view character = characters.substr(0, Utf8Length(characters[0]));
    out->append(Find(character).value_or(character));
    characters.remove_prefix(character.size());
  }
}

std::string Precompiled::Apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  std::string_view before;
  while (true) {
    const size_t plain = AppendPlainBytes(text, &out);
    if (plain > 0) before = text.substr(plain - 1, 1);
    text.remove_prefix(plain);
    if (text.empty()) return out;
    const std::string_view cluster = text.substr(0, FirstGrapheme(text));
    std::optional<std::string_view> replacement;
    if (cluster.size() <= kMaxChunk && !IsJoinedByVirama(before, cluster)) replacement = Find(cluster);
    if (replacement.has_value()) {
      out.append(*replacement);
    } else {
      AppendCharacters(cluster, &out);
    }
    before = cluster;
    text.remove_prefix(cluster.size());
  }
}

}  // namespace titan
