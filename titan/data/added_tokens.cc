#include "titan/data/added_tokens.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"
#include "titan/data/white_space.h"

namespace titan {
namespace {

constexpr int64_t kMaxId = 1 << 24;
// Each place of a text is compared with so many bytes at most.
constexpr size_t kMaxContent = 1 << 12;

uint64_t Key(int32_t node, char byte) { return static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(byte); }

absl::StatusOr<AddedToken> ReadAddedToken(const nlohmann::json& json) {
  AddedToken token;
  TITAN_ASSIGN_OR_RETURN(token.content, StringMember(json, "content"));
  if (token.content.size() > kMaxContent) {
    return absl::InvalidArgumentError(absl::StrCat("\"content\" is longer than ", kMaxContent, " bytes"));
  }
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
  token_at_.push_back(-1);
  for (const AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    bool& is_start = starts_[static_cast<unsigned char>(token.content[0])];
    if (!is_start) start_bytes_.push_back(token.content[0]);
    is_start = true;
    int32_t node = 0;
    for (const char byte : token.content) {
      const auto [child, added] = children_.try_emplace(Key(node, byte), static_cast<int32_t>(token_at_.size()));
      if (added) token_at_.push_back(-1);
      node = child->second;
    }
    if (token_at_[node] >= 0) continue;  // of equals the first one counts
    token_at_[node] = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(token);
  }
}

size_t AddedTokenFinder::NextStart(std::string_view text, size_t from) const {
  // Mostly there is one, such as '<'.
  if (start_bytes_.size() <= 1)
    return start_bytes_.empty() ? text.size() : std::min(text.find(start_bytes_[0], from), text.size());
  while (from < text.size() && !starts_[static_cast<unsigned char>(text[from])]) ++from;
  return from;
}

const AddedToken* AddedTokenFinder::LongestPrefix(std::string_view text) const {
  int32_t node = 0;
  int32_t longest = -1;
  for (const char byte : text) {
    const auto child = children_.find(Key(node, byte));
    if (child == children_.end()) break;
    node = child->second;
    if (token_at_[node] >= 0) longest = token_at_[node];
  }
  return longest < 0 ? nullptr : &tokens_[longest];
}

void AddedTokenFinder::Split(std::string_view text, std::vector<Piece>* pieces) const {
  size_t done = 0;  // all before is in `pieces`
  for (size_t i = NextStart(text, 0); i < text.size(); i = NextStart(text, i)) {
    const AddedToken* token = LongestPrefix(text.substr(i));
    if (token == nullptr) {
      ++i;
      continue;
    }
    const size_t begin = token->lstrip ? done + TrailingSpace(text.substr(done, i - done)) : i;
    i += token->content.size();
    if (token->rstrip) i += LeadingSpace(text.substr(i));
    if (done < begin) pieces->push_back({text.substr(done, begin - done), -1});
    pieces->push_back({text.substr(begin, i - begin), token->id});
    done = i;
  }
  if (done < text.size()) pieces->push_back({text.substr(done), -1});
}

}  // namespace titan
