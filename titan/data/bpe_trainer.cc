#include "titan/data/bpe_trainer.h"

#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/status_macros.h"
#include "titan/data/byte_level.h"
#include "titan/data/json.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

// https://huggingface.co/meta-llama/Meta-Llama-3-8B/blob/main/tokenizer.json, its pre_tokenizer.
constexpr char kPreTokenizer[] =
    R"({
    "type": "Sequence",
    "pretokenizers": [
      {
        "type": "Split",
        "pattern": {
          "Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
        },
        "behavior": "Isolated",
        "invert": false
      },
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
    ]
  })";

using Pair = std::pair<int32_t, int32_t>;

struct Word {
  std::vector<int32_t> symbols;
  int64_t count;
};

// The state of training: words as symbols, and where each pair of neighbours is.
class Merger {
 public:
  explicit Merger(const std::map<std::string, int64_t, std::less<>>& counts) {
    std::array<int32_t, 256> id_of;
    for (const uint8_t byte : ByteLevelOrder()) {
      id_of[byte] = static_cast<int32_t>(bytes_.size());
      bytes_.push_back(std::string(1, static_cast<char>(byte)));
    }
    for (const auto& [text, count] : counts) {
      Word word = {{}, count};
      for (const char byte : text) word.symbols.push_back(id_of[static_cast<unsigned char>(byte)]);
      words_.push_back(std::move(word));
      Count(words_.size() - 1, 1);
    }
  }

  // Joins the best pair everywhere; false if none occurs twice.
  bool MergeBest() {
    const Pair* best = nullptr;
    int64_t best_count = 1;
    for (const auto& [pair, occurrences] : pairs_) {
      if (occurrences.count > best_count || (occurrences.count == best_count && best && IsBefore(pair, *best))) {
        best = &pair;
        best_count = occurrences.count;
      }
    }
    if (best == nullptr) return false;
    Join(*best);
    return true;
  }

  const std::vector<std::string>& bytes() const { return bytes_; }  // of each token
  const std::vector<Pair>& merges() const { return merges_; }

 private:
  struct Occurrences {
    int64_t count = 0;
    std::set<size_t> words;  // all that have it; perhaps some that had it
  };

  bool IsBefore(const Pair& a, const Pair& b) const {
    return std::tie(bytes_[a.first], bytes_[a.second]) < std::tie(bytes_[b.first], bytes_[b.second]);
  }

  // Adds (sign 1) or takes away (-1) the pairs of a word.
  void Count(size_t word, int64_t sign) {
    const std::vector<int32_t>& symbols = words_[word].symbols;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      Occurrences& occurrences = pairs_[{symbols[i], symbols[i + 1]}];
      occurrences.count += sign * words_[word].count;
      if (sign > 0) occurrences.words.insert(word);
    }
  }

  void Join(Pair pair) {
    const int32_t joined = static_cast<int32_t>(bytes_.size());
    bytes_.push_back(bytes_[pair.first] + bytes_[pair.second]);
    merges_.push_back(pair);
    const std::set<size_t> words = std::move(pairs_[pair].words);
    for (const size_t word : words) {
      Count(word, -1);
      std::vector<int32_t> symbols;
      for (const int32_t symbol : words_[word].symbols) {
        // Left to right, as encoding does: in "aaa" the first two are joined.
        if (symbol == pair.second && !symbols.empty() && symbols.back() == pair.first) {
          symbols.back() = joined;
        } else {
          symbols.push_back(symbol);
        }
      }
      words_[word].symbols = std::move(symbols);
      Count(word, 1);
    }
    pairs_.erase(pair);
  }

  std::vector<Word> words_;
  std::vector<std::string> bytes_;
  std::vector<Pair> merges_;
  absl::flat_hash_map<Pair, Occurrences> pairs_;
};

std::string Quote(std::string_view text) { return nlohmann::json(std::string(text)).dump(); }

std::string SpecialToken(int64_t i) {
  return i == 0   ? "<|begin_of_text|>"
         : i == 1 ? "<|end_of_text|>"
                  : absl::StrCat("<|reserved_special_token_", i - 2, "|>");
}

// Written by hand, so that the vocabulary stands in the order of its ids.
std::string ToJson(const Merger& merger) {
  const int64_t ordinary = merger.bytes().size();
  std::string added;
  for (int64_t i = 0; i < BpeTrainer::kSpecialTokens; ++i) {
    absl::StrAppend(&added, i == 0 ? "" : ",\n", R"(    {"id": )", ordinary + i, R"(, "content": )",
                    Quote(SpecialToken(i)), R"(, "single_word": false, "lstrip": false, "rstrip": false, )",
                    R"("normalized": false, "special": true})");
  }
  std::string vocabulary;
  for (int64_t id = 0; id < ordinary; ++id) {
    absl::StrAppend(&vocabulary, id == 0 ? "" : ",\n", "      ", Quote(ToByteLevel(merger.bytes()[id])), ": ", id);
  }
  std::string merges;
  for (const auto& [left, right] : merger.merges()) {
    absl::StrAppend(&merges, merges.empty() ? "" : ",\n", "      [", Quote(ToByteLevel(merger.bytes()[left])), ", ",
                    Quote(ToByteLevel(merger.bytes()[right])), "]");
  }
  const std::string begin = R"({"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}})";
  return absl::StrCat(
      "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [\n", added,
      "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": ", kPreTokenizer,
      ",\n  \"post_processor\": {\n    \"type\": \"TemplateProcessing\",\n    \"single\": [", begin,
      ", {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}],\n    \"pair\": [", begin,
      ", {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, ", begin,
      ", {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}],\n    \"special_tokens\": {\"<|begin_of_text|>\": {\"id\": "
      "\"<|begin_of_text|>\", \"ids\": [",
      ordinary, "], \"tokens\": [\"<|begin_of_text|>\"]}}\n  },\n",
      "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": "
      "true},\n",
      "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n    "
      "\"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n    "
      "\"byte_fallback\": false,\n    \"ignore_merges\": true,\n    \"vocab\": {\n",
      vocabulary, "\n    },\n    \"merges\": [\n", merges, "\n    ]\n  }\n}\n");
}

}  // namespace

BpeTrainer::BpeTrainer()
    : pre_tokenizer_([] {
        const absl::StatusOr<nlohmann::json> json = ParseJson(kPreTokenizer);
        CHECK_OK(json.status());
        absl::StatusOr<PreTokenizer> pre_tokenizer = PreTokenizer::FromJson(*json);
        CHECK_OK(pre_tokenizer.status());
        return *std::move(pre_tokenizer);
      }()) {}

absl::Status BpeTrainer::Add(std::string_view text) {
  if (const std::optional<size_t> bad = FindInvalidUtf8(text)) {
    return absl::InvalidArgumentError(absl::StrCat("not UTF-8 at byte ", *bad));
  }
  std::string storage;
  std::vector<std::string_view> words;
  TITAN_RETURN_IF_ERROR(pre_tokenizer_.Split(text, /*at_start=*/true, &storage, &words));
  for (const std::string_view word : words) {
    auto found = counts_.find(word);
    if (found == counts_.end()) found = counts_.emplace(word, 0).first;
    ++found->second;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> BpeTrainer::Train(int64_t vocab_size) const {
  const int64_t merges = vocab_size - 256 - kSpecialTokens;
  if (merges < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the vocabulary must have room for 256 bytes and ", kSpecialTokens, " special tokens"));
  }
  Merger merger(counts_);
  for (int64_t i = 0; i < merges; ++i) {
    if (!merger.MergeBest()) {
      return absl::InvalidArgumentError(absl::StrCat("the text is too short: it gives ", i,
                                                     " merges, and a vocabulary of ", vocab_size, " needs ", merges));
    }
  }
  return ToJson(merger);
}

}  // namespace titan
