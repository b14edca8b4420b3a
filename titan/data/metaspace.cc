#include "titan/data/metaspace.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"
#include "titan/data/utf8.h"

namespace titan {

absl::StatusOr<Metaspace> Metaspace::FromJson(const nlohmann::json& component) {
  Metaspace result;
  TITAN_ASSIGN_OR_RETURN(result.replacement_, StringMember(component, "replacement"));
  if (result.replacement_.empty() || Utf8Length(result.replacement_[0]) != result.replacement_.size()) {
    return absl::InvalidArgumentError("Metaspace: \"replacement\" must be one character");
  }
  TITAN_ASSIGN_OR_RETURN(result.split_, BoolMember(component, "split", true));
  std::string scheme = "always";
  if (!Member(component, "prepend_scheme").is_null()) {
    TITAN_ASSIGN_OR_RETURN(scheme, StringMember(component, "prepend_scheme"));
  }
  if (scheme == "first") {
    result.scheme_ = Scheme::kFirst;
  } else if (scheme == "never") {
    result.scheme_ = Scheme::kNever;
  } else if (scheme != "always") {
    return absl::InvalidArgumentError(absl::StrCat("Metaspace: unknown prepend_scheme \"", scheme, "\""));
  }
  // What older files say instead of prepend_scheme.
  TITAN_ASSIGN_OR_RETURN(const bool add_prefix_space, BoolMember(component, "add_prefix_space", true));
  if (!add_prefix_space && result.scheme_ != Scheme::kNever) {
    return absl::InvalidArgumentError("Metaspace: \"add_prefix_space\": false contradicts \"prepend_scheme\"");
  }
  return result;
}

void Metaspace::Replace(std::string_view word, bool at_start, std::string* text) const {
  const bool prepend = scheme_ == Scheme::kAlways || (scheme_ == Scheme::kFirst && at_start);
  if (prepend && !absl::StartsWith(word, " ") && !absl::StartsWith(word, replacement_)) *text += replacement_;
  while (true) {
    const size_t space = word.find(' ');
    text->append(word.substr(0, space));
    if (space == std::string_view::npos) return;
    text->append(replacement_);
    word.remove_prefix(space + 1);
  }
}

void Metaspace::Split(std::string_view word, std::vector<std::string_view>* words) const {
  if (!split_) {
    words->push_back(word);
    return;
  }
  while (!word.empty()) {
    const size_t end = word.find(replacement_, absl::StartsWith(word, replacement_) ? replacement_.size() : 0);
    words->push_back(word.substr(0, end));
    word.remove_prefix(words->back().size());
  }
}

void Metaspace::Decode(std::vector<std::string>* tokens) const {
  bool is_first = scheme_ != Scheme::kNever;
  for (std::string& token : *tokens) {
    token = absl::StrReplaceAll(token, {{replacement_, is_first ? "" : " "}});
    is_first = false;
  }
}

}  // namespace titan
