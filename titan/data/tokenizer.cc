#include "titan/data/tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/data/added_tokens.h"
#include "titan/data/bpe.h"
#include "titan/data/byte_level.h"
#include "titan/data/json.h"
#include "titan/data/pre_tokenizer.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

// The first one that a tokenizer has counts.
constexpr std::string_view kBosNames[] = {"<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "<|startoftext|>", "<bos>",
                                          "<s>"};
constexpr std::string_view kEosNames[] = {"<|end_of_text|>", "<｜end▁of▁sentence｜>", "<|endoftext|>", "<eos>", "</s>"};

// Ids that the post-processor puts around a text.
struct Template {
  std::vector<int64_t> before;
  std::vector<int64_t> after;
};

absl::Status AddTemplateProcessing(const nlohmann::json& component, Template* result) {
  const nlohmann::json& single = Member(component, "single");
  if (!single.is_array()) return absl::InvalidArgumentError("TemplateProcessing: \"single\" must be a list");
  std::vector<int64_t> before;
  std::vector<int64_t> after;
  int sequences = 0;
  for (const nlohmann::json& part : single) {
    if (!Member(part, "Sequence").is_null()) {
      ++sequences;
      continue;
    }
    TITAN_ASSIGN_OR_RETURN(const std::string name, StringMember(Member(part, "SpecialToken"), "id"));
    const nlohmann::json& ids = Member(Member(Member(component, "special_tokens"), name.c_str()), "ids");
    if (!ids.is_array()) return absl::InvalidArgumentError(absl::StrCat("TemplateProcessing: no ids of ", name));
    for (const nlohmann::json& id : ids) {
      if (!id.is_number_unsigned())
        return absl::InvalidArgumentError(absl::StrCat("TemplateProcessing: ids of ", name));
      (sequences == 0 ? before : after).push_back(id.get<int64_t>());
    }
  }
  if (sequences != 1) return absl::InvalidArgumentError("TemplateProcessing: \"single\" must hold one Sequence");
  result->before.insert(result->before.begin(), before.begin(), before.end());
  result->after.insert(result->after.end(), after.begin(), after.end());
  return absl::OkStatus();
}

absl::Status AddPostProcessor(const nlohmann::json& component, Template* result) {
  if (component.is_null()) return absl::OkStatus();
  const std::string type = TypeOf(component);
  if (type == "ByteLevel") return absl::OkStatus();  // concerns offsets only
  if (type == "TemplateProcessing") return AddTemplateProcessing(component, result);
  if (type == "Sequence") {
    const nlohmann::json& processors = Member(component, "processors");
    if (!processors.is_array()) return absl::InvalidArgumentError("post_processor: \"processors\" must be a list");
    for (const nlohmann::json& processor : processors) TITAN_RETURN_IF_ERROR(AddPostProcessor(processor, result));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("not supported yet: the post_processor \"", type, "\""));
}

// A Sequence of nothing is nothing.
bool IsEmptyNormalizer(const nlohmann::json& normalizer) {
  if (normalizer.is_null()) return true;
  const nlohmann::json& parts = Member(normalizer, "normalizers");
  return TypeOf(normalizer) == "Sequence" && parts.is_array() &&
         std::all_of(parts.begin(), parts.end(), [](const nlohmann::json& part) { return IsEmptyNormalizer(part); });
}

absl::Status CheckComponents(const nlohmann::json& json) {
  if (!json.is_object()) return absl::InvalidArgumentError("not a JSON object");
  for (const char* cuts : {"truncation", "padding"}) {
    if (!Member(json, cuts).is_null()) {
      return absl::InvalidArgumentError(absl::StrCat("not supported: \"", cuts, "\"; set it to null"));
    }
  }
  const nlohmann::json& normalizer = Member(json, "normalizer");
  if (!IsEmptyNormalizer(normalizer)) {
    return absl::InvalidArgumentError(absl::StrCat("not supported yet: the normalizer \"", TypeOf(normalizer), "\""));
  }
  const std::string decoder = TypeOf(Member(json, "decoder"));
  if (decoder != "ByteLevel") {
    return absl::InvalidArgumentError(absl::StrCat("not supported yet: the decoder \"", decoder, "\""));
  }
  return absl::OkStatus();
}

std::vector<AddedToken> Filter(const std::vector<AddedToken>& tokens, bool normalized) {
  std::vector<AddedToken> result;
  std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(result),
               [&](const AddedToken& token) { return token.normalized == normalized; });
  return result;
}

class ByteLevelTokenizer : public Tokenizer {
 public:
  ByteLevelTokenizer(PreTokenizer pre_tokenizer, std::unique_ptr<Bpe> bpe, const std::vector<AddedToken>& added_tokens,
                     Template around)
      : pre_tokenizer_(std::move(pre_tokenizer)),
        bpe_(std::move(bpe)),
        raw_finder_(Filter(added_tokens, /*normalized=*/false)),
        normalized_finder_(Filter(added_tokens, /*normalized=*/true)),
        around_(std::move(around)) {}

  // Fills in what decoding needs. InvalidArgument if two tokens share an id.
  absl::Status SetTokens(const std::vector<AddedToken>& added_tokens) {
    for (const auto& [token, id] : bpe_->vocabulary()) {
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
    for (const std::vector<int64_t>* ids : {&around_.before, &around_.after}) {
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
    if (add_special_tokens) ids = around_.before;
    std::vector<AddedTokenFinder::Piece> outer;
    std::vector<AddedTokenFinder::Piece> pieces;
    raw_finder_.Split(text, &outer);
    for (const AddedTokenFinder::Piece& piece : outer) {
      piece.id >= 0 ? pieces.push_back(piece) : normalized_finder_.Split(piece.text, &pieces);
    }
    for (const AddedTokenFinder::Piece& piece : pieces) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
        continue;
      }
      TITAN_ASSIGN_OR_RETURN(const std::vector<std::string_view> words, pre_tokenizer_.Split(piece.text));
      for (const std::string_view word : words) bpe_->Encode(word, &ids);
    }
    if (add_special_tokens) ids.insert(ids.end(), around_.after.begin(), around_.after.end());
    return ids;
  }

  std::string Decode(absl::Span<const int64_t> ids, bool skip_special_tokens) const override {
    std::string bytes;
    for (const int64_t id : ids) {
      if (id < 0 || id >= vocab_size()) continue;
      if (!(skip_special_tokens && tokens_[id].special)) bytes += tokens_[id].bytes;
    }
    return LossyUtf8(bytes);
  }

  int64_t vocab_size() const override { return tokens_.size(); }
  std::optional<int64_t> bos_id() const override { return bos_id_; }
  std::optional<int64_t> eos_id() const override { return eos_id_; }

 private:
  struct Token {
    std::string content;  // as written; empty: no token has this id
    std::string bytes;    // what it decodes to
    bool special = false;
  };

  absl::Status SetToken(int32_t id, const std::string& content, bool special) {
    if (tokens_.size() <= static_cast<size_t>(id)) tokens_.resize(id + 1);
    Token& token = tokens_[id];
    if (!token.content.empty() && token.content != content) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", token.content, "\" and \"", content, "\" both have the id ", id));
    }
    token = {content, FromByteLevel(content).value_or(content), special};
    return absl::OkStatus();
  }

  const PreTokenizer pre_tokenizer_;
  const std::unique_ptr<Bpe> bpe_;
  const AddedTokenFinder raw_finder_;
  const AddedTokenFinder normalized_finder_;
  const Template around_;
  std::vector<Token> tokens_;  // by id
  std::optional<int64_t> bos_id_;
  std::optional<int64_t> eos_id_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Parse(std::string_view text) {
  TITAN_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text));
  TITAN_RETURN_IF_ERROR(CheckComponents(json));
  TITAN_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::FromJson(Member(json, "pre_tokenizer")));
  TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Bpe> bpe, Bpe::FromJson(Member(json, "model")));
  TITAN_ASSIGN_OR_RETURN(const std::vector<AddedToken> added_tokens, ReadAddedTokens(Member(json, "added_tokens")));
  Template around;
  TITAN_RETURN_IF_ERROR(AddPostProcessor(Member(json, "post_processor"), &around));
  auto tokenizer =
      std::make_unique<ByteLevelTokenizer>(std::move(pre_tokenizer), std::move(bpe), added_tokens, std::move(around));
  TITAN_RETURN_IF_ERROR(tokenizer->SetTokens(added_tokens));
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Parse(text);
  if (!tokenizer.ok()) {
    return absl::Status(tokenizer.status().code(), absl::StrCat(path, ": ", tokenizer.status().message()));
  }
  return tokenizer;
}

}  // namespace titan
