// "Precompiled" of a tokenizer.json, a normalizer: sentencepiece's own table of replacements, as Hugging Face applies
// it.
//
// The table (the "precompiled_charsmap" of https://github.com/google/sentencepiece, base64) is 4 bytes with the size of
// a tree of keys, the tree as a double array (https://github.com/s-yata/darts-clone), and the replacements, each ended
// by a zero byte.
//
// Text is taken by grapheme clusters. A cluster shorter than 6 bytes that begins with a key becomes that key's
// replacement, all of it; if several keys begin it, the shortest counts. Of another cluster each character is taken by
// itself in that way.

#ifndef TITAN_DATA_PRECOMPILED_H_
#define TITAN_DATA_PRECOMPILED_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

class Precompiled {
 public:
  // InvalidArgument for a table that is cut off or points outside of itself. `charsmap`: its bytes.
  static absl::StatusOr<std::shared_ptr<const Precompiled>> Parse(std::string_view charsmap);

  // `text` must be UTF-8. Thread-safe.
  std::string Apply(std::string_view text) const;

  // How many times as long it can make a text.
  int64_t growth() const { return growth_; }

 private:
  Precompiled() = default;

  absl::Status ReadKeys(std::string_view units);
  absl::Status AddKey(const std::string& key, size_t value);
  // The replacement of the shortest key that `chunk`, shorter than 6 bytes, begins with; nullopt if none does.
  std::optional<std::string_view> Find(std::string_view chunk) const;
  // Fills in `ascii_`.
  void FindPlainBytes();
  // Appends what becomes of the clusters of single bytes that `text` begins with, as many as `ascii_` has; how many.
  size_t AppendPlainBytes(std::string_view text, std::string* out) const;
  void AppendCharacters(std::string_view characters, std::string* out) const;

  std::string replacements_;
  absl::flat_hash_map<uint64_t, std::string_view> keys_;  // packed; into replacements_
  std::array<uint8_t, 256> lengths_ = {};                 // by first byte: bit n, if a key of n bytes begins with it
  std::array<int16_t, 256> ascii_;                        // by byte: the one that it becomes by itself, -1: see there
  int64_t growth_ = 1;
};

}  // namespace titan

#endif  // TITAN_DATA_PRECOMPILED_H_
