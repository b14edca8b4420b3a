#include "titan/data/added_tokens.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

constexpr int64_t kMaxId = 1 << 24;

// The Unicode property White_Space.
bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// Start of the white space that `text` ends with.
size_t TrailingSpace(std::string_view text) {
  size_t start = text.size();
  while (start > 0) {
    size_t character = start - 1;
    while (character > 0 && (text[character] & 0xC0) == 0x80) --character;
    size_t offset = character;
    if (!IsWhiteSpace(NextCodePoint(text, &offset))) break;
    start = character;
  }
  return start;
}

// End of the white space that `text` begins with.
size_t LeadingSpace(std::string_view text) {
  size_t end = 0;
  while (end < text.size()) {
    size_t offset = end;
    if (!IsWhiteSpace(NextCodePoint(text, &offset))) break;
    end = offset;
  }
  return end;
}

absl::StatusOr<AddedToken> ReadAddedToken(const nlohmann::json& json) {
  AddedToken token;
  TITAN_ASSIGN_OR_RETURN(token.content, StringMember(json, "content"));
  TITAN_ASSIGN_OR_RETURN(const int64_t id, IntegerMember(json, "id"));
  if (id >= kMaxId) return absl::InvalidArgumentError("\"id\" must be below 2^24");
  token.id = static_cast<int32_t>(id);
  TITAN_ASSIGN_OR_RETURN(token.special, BoolMember(json, "special", false));
  TITAN_ASSIGN_OR_RETURN(token.normalized, BoolMember(json, "normalized", !token.special));
  TITAN_ASSIGN_OR_RETURN(token.lstrip, BoolMember(json, "lstrip", false));
  TITAN_ASSIGN_OR_RETURN(token.rstrip, BoolMember(json, "rstrip", false));
  TITAN_ASSIGN_OR_RETURN(const bool single_word, BoolMember(json, "single_word", false));
  if (single_word) return absl::InvalidArgumentError("not supported yet: single_word");
  return token;
}

}  // namespace

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const nlohmann::json& json) {
  std::vector<AddedToken> tokens;
  if (json.is_null()) return tokens;
  if (!json.is_array()) return absl::InvalidArgumentError("\"added_tokens\" must be a list");
  for (const nlohmann::json& element : json) {
    absl::StatusOr<AddedToken> token = ReadAddedToken(element);
    if (!token.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("added_tokens[", tokens.size(), "]: ", token.status().message()));
    }
    tokens.push_back(*std::move(token));
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    starts_[static_cast<unsigned char>(token.content[0])] = true;
    max_length_ = std::max(max_length_, token.content.size());
    tokens_.emplace(token.content, token);
  }
}

const AddedToken* AddedTokenFinder::LongestPrefix(std::string_view text) const {
  if (!starts_[static_cast<unsigned char>(text[0])]) return nullptr;
  for (size_t length = std::min(max_length_, text.size()); length > 0; --length) {
    const auto found = tokens_.find(text.substr(0, length));
    if (found != tokens_.end()) return &found->second;
  }
  return nullptr;
}

void AddedTokenFinder::Split(std::string_view text, std::vector<Piece>* pieces) const {
  size_t done = 0;  // all before is in `pieces`
  for (size_t i = 0; i < text.size();) {
    const AddedToken* token = LongestPrefix(text.substr(i));
    if (token == nullptr) {
      ++i;
      continue;
    }
    const size_t begin = token->lstrip ? std::max(TrailingSpace(text.substr(0, i)), done) : i;
    i += token->content.size();
    if (token->rstrip) i += LeadingSpace(text.substr(i));
    if (done < begin) pieces->push_back({text.substr(done, begin - done), -1});
    pieces->push_back({text.substr(begin, i - begin), token->id});
    done = i;
  }
  if (done < text.size()) pieces->push_back({text.substr(done), -1});
}

}  // namespace titan
