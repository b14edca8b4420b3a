// Byte-pair encoding of single words, of bytes or of characters.

#ifndef TITAN_DATA_BPE_H_
#define TITAN_DATA_BPE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "titan/data/model.h"
#include "titan/data/word_cache.h"

namespace titan {

class Bpe : public Model {
 public:
  static absl::StatusOr<std::unique_ptr<Model>> FromJson(const nlohmann::json& model, bool byte_level);

  // Merges the neighbours of lowest rank, the leftmost first, until none is left.
  void Encode(absl::Span<const std::string_view> words, std::vector<int64_t>* ids) const override;

 private:
  struct Merge {
    int32_t rank;
    int32_t result;
  };

  static constexpr uint64_t kNoMerge = ~uint64_t{0};
  struct MergeSlot {
    uint64_t key = kNoMerge;
    Merge merge = {};
  };

  using Symbols = absl::InlinedVector<int32_t, 64>;

  explicit Bpe(bool byte_level) : byte_level_(byte_level) {}
  absl::Status ReadOptions(const nlohmann::json& model);
  absl::Status ReadVocabulary(const nlohmann::json& vocabulary);
  absl::Status ReadBytes();
  absl::Status ReadUnknown(const nlohmann::json& model);
  absl::Status ReadMerges(const nlohmann::json& merges);

  // A token of the file as `ids_` has it; nullopt if no text ever becomes it.
  std::optional<std::string> TextOf(const std::string& token) const;

  void BuildMergeTable(const absl::flat_hash_map<uint64_t, Merge>& merges);
  // nullptr if the two do not merge.
  const Merge* FindMerge(int32_t left, int32_t right) const;
  // Where the first part of a word ends that can be encoded alone: nothing merges across its end.
  size_t EndOfPart(std::string_view word) const;
  void EncodeUncached(std::string_view word, std::vector<int64_t>* ids) const;
  Symbols BytesOf(std::string_view word) const;
  Symbols CharactersOf(std::string_view word) const;
  void MergeShort(Symbols* symbols) const;  // O(n^2), fastest for words
  void MergeLong(Symbols* symbols) const;   // O(n log n)

  const bool byte_level_;
  bool ignore_merges_ = false;        // a word that is in the vocabulary is one token, whatever the merges say
  bool fuse_unknown_ = false;         // unknown characters in a row are one token
  bool cuts_at_spaces_ = false;       // no token goes on where spaces (U+2581) begin
  bool cuts_at_newlines_ = false;     // "\n" is a token by itself, whatever is around it
  std::array<bool, 256> stops_ = {};  // bytes that a part may end before
  std::string suffix_;                // the last character of a word has it
  absl::flat_hash_map<std::string, int32_t> ids_;  // by text: raw bytes, if byte_level_
  std::vector<uint64_t> may_merge_;  // bits by hash: most pairs do not merge, and are not looked up in merges_
  std::vector<MergeSlot> merges_;    // by left << 32 | right: open addressing, at most half full

  // If byte_level_: by byte, inside a word and at its end.
  std::array<int32_t, 256> byte_ids_;
  std::array<int32_t, 256> last_byte_ids_;

  // Else: of ASCII characters; -1 where the vocabulary has none.
  std::array<int32_t, 128> ascii_ids_;
  int32_t newline_id_ = -1;
  // Of bytes that are left of unknown characters, if there is such a fallback, -1 where the vocabulary has none.
  bool byte_fallback_ = false;
  std::array<int32_t, 256> fallback_ids_;
  int32_t unknown_id_ = -1;  // -1: none

  mutable WordCache cache_;
};

}  // namespace titan

#endif  // TITAN_DATA_BPE_H_
