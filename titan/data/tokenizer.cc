#include "titan/data/tokenizer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/base/with_context.h"
#include "titan/data/added_tokens.h"
#include "titan/data/decoder.h"
#include "titan/data/json.h"
#include "titan/data/model.h"
#include "titan/data/normalizer.h"
#include "titan/data/post_processor.h"
#include "titan/data/pre_tokenizer.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

// The first one that a tokenizer has counts.
constexpr std::string_view kBosNames[] = {"<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "<|startoftext|>", "<bos>",
                                          "<s>"};
constexpr std::string_view kEosNames[] = {"<|end_of_text|>", "<｜end▁of▁sentence｜>", "<|endoftext|>", "<eos>", "</s>"};

// Ids that no token has, at most: else a file of a hundred bytes could ask for gigabytes.
constexpr size_t kMaxUnusedIds = 1 << 16;

absl::Status CheckComponents(const nlohmann::json& json) {
  if (!json.is_object()) return absl::InvalidArgumentError("not a JSON object");
  for (const char* cuts : {"truncation", "padding"}) {
    if (!Member(json, cuts).is_null()) {
      return absl::InvalidArgumentError(absl::StrCat("not supported: \"", cuts, "\"; set it to null"));
    }
  }
  return absl::OkStatus();
}

// Those that are looked for before normalization.
std::vector<AddedToken> RawTokens(const std::vector<AddedToken>& tokens) {
  std::vector<AddedToken> result;
  std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(result),
               [](const AddedToken& token) { return !token.normalized; });
  return result;
}

// Those that are looked for in normalized text, and so normalized themselves.
absl::StatusOr<std::vector<AddedToken>> NormalizedTokens(const std::vector<AddedToken>& tokens,
                                                         const Normalizer& normalizer) {
  std::vector<AddedToken> result;
  for (AddedToken token : tokens) {
    if (!token.normalized) continue;
    std::string storage;
    TITAN_ASSIGN_OR_RETURN(const std::string_view content, normalizer.Normalize(token.content, &storage));
    token.content = std::string(content);
    result.push_back(std::move(token));
  }
  return result;
}

// The stages of a tokenizer.json.
struct Stages {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<Model> model;
  PostProcessor around;
  Decoder decoder;
};

absl::StatusOr<Stages> ReadStages(const nlohmann::json& json) {
  TITAN_RETURN_IF_ERROR(CheckComponents(json));
  Stages stages;
  TITAN_ASSIGN_OR_RETURN(stages.normalizer, Normalizer::FromJson(Member(json, "normalizer")));
  TITAN_ASSIGN_OR_RETURN(stages.pre_tokenizer, PreTokenizer::FromJson(Member(json, "pre_tokenizer")));
  if (stages.pre_tokenizer.needs_start() && !stages.normalizer.empty()) {
    return absl::InvalidArgumentError(
        "not supported yet: Metaspace with the prepend_scheme \"first\" after a normalizer");
  }
  TITAN_ASSIGN_OR_RETURN(stages.model, Model::FromJson(Member(json, "model"), stages.pre_tokenizer.is_byte_level()));
  TITAN_ASSIGN_OR_RETURN(stages.around, ReadPostProcessor(Member(json, "post_processor")));
  TITAN_ASSIGN_OR_RETURN(stages.decoder, Decoder::FromJson(Member(json, "decoder")));
  return stages;
}

class StagedTokenizer : public Tokenizer {
 public:
  StagedTokenizer(Stages stages, const std::vector<AddedToken>& raw_tokens,
                  const std::vector<AddedToken>& normalized_tokens)
      : stages_(std::move(stages)), raw_finder_(raw_tokens), normalized_finder_(normalized_tokens) {}

  // Fills in what decoding needs. InvalidArgument if two tokens share an id.
  absl::Status SetTokens(const std::vector<AddedToken>& added_tokens) {
    max_tokens_ = stages_.model->vocabulary().size() + added_tokens.size() + kMaxUnusedIds;
    for (const auto& [token, id] : stages_.model->vocabulary()) {
      TITAN_RETURN_IF_ERROR(SetToken(id, token, /*special=*/false));
    }
    for (const AddedToken& token : added_tokens) {
      TITAN_RETURN_IF_ERROR(SetToken(token.id, token.content, token.special));
    }
    const auto find = [&](absl::Span<const std::string_view> names) -> std::optional<int64_t> {
      for (const std::string_view name : names) {
        for (const AddedToken& token : added_tokens) {
          if (token.content == name) return token.id;
        }
      }
      return std::nullopt;
    };
    bos_id_ = find(kBosNames);
    eos_id_ = find(kEosNames);
    for (const std::vector<int64_t>* ids : {&stages_.around.before, &stages_.around.after}) {
      for (const int64_t id : *ids) {
        if (id >= vocab_size()) return absl::InvalidArgumentError(absl::StrCat("post_processor: no token has id ", id));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<int64_t>> Encode(std::string_view text, bool add_special_tokens) const override {
    if (const std::optional<size_t> bad = FindInvalidUtf8(text)) {
      return absl::InvalidArgumentError(absl::StrCat("not UTF-8 at byte ", *bad));
    }
    std::vector<int64_t> ids;
    ids.reserve(text.size() / 3 + 8);
    if (add_special_tokens) ids = stages_.around.before;
    std::vector<AddedTokenFinder::Piece> pieces;
    raw_finder_.Split(text, &pieces);
    for (const AddedTokenFinder::Piece& piece : pieces) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
      } else {
        TITAN_RETURN_IF_ERROR(EncodePiece(piece.text, /*at_start=*/piece.text.data() == text.data(), &ids));
      }
    }
    if (add_special_tokens) ids.insert(ids.end(), stages_.around.after.begin(), stages_.around.after.end());
    return ids;
  }

  std::string Decode(absl::Span<const int64_t> ids, bool skip_special_tokens) const override {
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const int64_t id : ids) {
      if (id < 0 || id >= vocab_size() || tokens_[id].content.empty()) continue;
      if (!(skip_special_tokens && tokens_[id].special)) tokens.push_back(tokens_[id].content);
    }
    return stages_.decoder.Decode(std::move(tokens));
  }

  int64_t vocab_size() const override { return tokens_.size(); }
  std::optional<int64_t> bos_id() const override { return bos_id_; }
  std::optional<int64_t> eos_id() const override { return eos_id_; }

 private:
  struct Token {
    std::string content;  // as written; empty: no token has this id
    bool special = false;
  };

  // Appends the ids of what lies between added tokens.
  absl::Status EncodePiece(std::string_view text, bool at_start, std::vector<int64_t>* ids) const {
    std::string normalized_storage, words_storage;
    TITAN_ASSIGN_OR_RETURN(const std::string_view normalized, stages_.normalizer.Normalize(text, &normalized_storage));
    std::vector<AddedTokenFinder::Piece> pieces;
    normalized_finder_.Split(normalized, &pieces);
    std::vector<std::string_view> words;
    for (const AddedTokenFinder::Piece& piece : pieces) {
      if (piece.id >= 0) {
        ids->push_back(piece.id);
        continue;
      }
      const bool piece_at_start = at_start && piece.text.data() == normalized.data();
      TITAN_RETURN_IF_ERROR(stages_.pre_tokenizer.Split(piece.text, piece_at_start, &words_storage, &words));
      stages_.model->Encode(words, ids);
    }
    return absl::OkStatus();
  }

  absl::Status SetToken(int32_t id, const std::string& content, bool special) {
    if (static_cast<size_t>(id) >= max_tokens_) {
      return absl::InvalidArgumentError(absl::StrCat("\"", content, "\" has the id ", id, ", and of the ids below ",
                                                     max_tokens_, " more than ", kMaxUnusedIds, " belong to no token"));
    }
    if (tokens_.size() <= static_cast<size_t>(id)) tokens_.resize(id + 1);
    Token& token = tokens_[id];
    if (!token.content.empty() && token.content != content) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", token.content, "\" and \"", content, "\" both have the id ", id));
    }
    token = {content, special};
    return absl::OkStatus();
  }

  const Stages stages_;
  const AddedTokenFinder raw_finder_;
  const AddedTokenFinder normalized_finder_;
  std::vector<Token> tokens_;  // by id
  size_t max_tokens_ = 0;
  std::optional<int64_t> bos_id_;
  std::optional<int64_t> eos_id_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Parse(std::string_view text) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text));
  TITAN_ASSIGN_OR_RETURN(Stages stages, ReadStages(json));
  TITAN_ASSIGN_OR_RETURN(const std::vector<AddedToken> added_tokens, ReadAddedTokens(Member(json, "added_tokens")));
  TITAN_ASSIGN_OR_RETURN(const std::vector<AddedToken> normalized_tokens,
                         NormalizedTokens(added_tokens, stages.normalizer));
  auto tokenizer = std::make_unique<StagedTokenizer>(std::move(stages), RawTokens(added_tokens), normalized_tokens);
  TITAN_RETURN_IF_ERROR(tokenizer->SetTokens(added_tokens));
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Parse(text);
  if (!tokenizer.ok()) return WithContext(path, tokenizer.status());
  return tokenizer;
}

}  // namespace titan
