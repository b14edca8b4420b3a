#include "titan/data/replacement.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"

namespace titan {
namespace {

constexpr int64_t kMaxGrowth = 1024;

}  // namespace

absl::StatusOr<std::string> PatternOf(const nlohmann::json& component) {
  const nlohmann::json& pattern = Member(component, "pattern");
  if (!Member(pattern, "String").is_null()) {
    TITAN_ASSIGN_OR_RETURN(const std::string text, StringMember(pattern, "String"));
    return QuoteRegex(text);
  }
  return StringMember(pattern, "Regex");
}

absl::StatusOr<Replacement> Replacement::FromJson(const nlohmann::json& component) {
  Replacement result;
  TITAN_ASSIGN_OR_RETURN(result.content_, StringMember(component, "content"));
  const nlohmann::json& pattern = Member(component, "pattern");
  if (!Member(pattern, "String").is_null()) {
    TITAN_ASSIGN_OR_RETURN(result.literal_, StringMember(pattern, "String"));
    return result;
  }
  TITAN_ASSIGN_OR_RETURN(const std::string expression, PatternOf(component));
  TITAN_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(expression));
  TITAN_ASSIGN_OR_RETURN(const std::optional<Regex::Match> empty, regex.Find("", 0));
  if (empty.has_value())
    return absl::InvalidArgumentError("not supported yet: Replace with a pattern that matches \"\"");
  result.regex_ = std::move(regex);
  result.run_ = RunOf(expression);
  return result;
}

std::optional<Replacement::Run> Replacement::RunOf(std::string_view expression) {
  const bool is_plain = !expression.empty() && (expression[0] == ' ' || absl::ascii_isalnum(expression[0]));
  if (!is_plain) return std::nullopt;
  Run run = {expression[0], 1};
  expression.remove_prefix(1);
  if (expression == "+") return run;
  if (!absl::ConsumePrefix(&expression, "{") || !absl::ConsumeSuffix(&expression, ",}")) return std::nullopt;
  // A single digit: what Regex::Compile took as a quantifier is one.
  if (expression.size() != 1 || expression[0] < '1' || expression[0] > '9') return std::nullopt;
  run.min = expression[0] - '0';
  return run;
}

std::string Replacement::ReplaceLiteral(std::string_view text) const {
  if (literal_.size() == 1 && content_.size() <= sizeof(uint64_t)) return ReplaceByte(text);
  std::string result;
  result.reserve(text.size());
  while (true) {
    const size_t match = text.find(literal_);
    result += text.substr(0, match);
    if (match == text.npos) return result;
    result += content_;
    text.remove_prefix(match + literal_.size());
  }
}

std::string Replacement::ReplaceByte(std::string_view text) const {
  // Without branches: spaces come too irregularly to be foreseen. Each byte writes a whole word, of which the next one
  // overwrites what is too much.
  const char literal = literal_[0];
  const size_t matches = std::count(text.begin(), text.end(), literal);
  uint64_t content = 0;
  std::memcpy(&content, content_.data(), content_.size());
  std::string result(text.size() - matches + matches * content_.size() + sizeof(content), '\0');
  char* out = result.data();
  for (const char c : text) {
    const uint64_t word = c == literal ? content : static_cast<unsigned char>(c);
    std::memcpy(out, &word, sizeof(word));
    out += c == literal ? content_.size() : 1;
  }
  result.resize(result.size() - sizeof(content));
  return result;
}

std::string Replacement::ReplaceRuns(std::string_view text) const {
  std::string result;
  result.reserve(text.size());
  size_t done = 0;  // all before is in `result`
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != run_->character) continue;
    const size_t begin = i;
    while (i + 1 < text.size() && text[i + 1] == run_->character) ++i;
    if (i + 1 - begin < run_->min) continue;
    result += text.substr(done, begin - done);
    result += content_;
    done = i + 1;
  }
  result += text.substr(done);
  return result;
}

int64_t Replacement::growth() const {
  if (is_literal() && literal_.empty()) return 1;
  const size_t match = is_literal() ? literal_.size() : 1;  // bytes, at least
  return std::max<int64_t>(1, static_cast<int64_t>((content_.size() + match - 1) / match));
}

absl::Status GrowBy(int64_t factor, int64_t* growth) {
  *growth *= factor;
  if (*growth <= kMaxGrowth) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("not supported: steps that together can make a text more than ", kMaxGrowth, " times as long"));
}

absl::StatusOr<std::string> Replacement::Apply(std::string_view text) const {
  if (is_literal()) {
    if (literal_.empty()) return std::string(text);
    return ReplaceLiteral(text);
  }
  if (run_.has_value()) return ReplaceRuns(text);
  std::string result;
  result.reserve(text.size());
  size_t done = 0;
  while (done < text.size()) {
    TITAN_ASSIGN_OR_RETURN(const std::optional<Regex::Match> match, regex_->Find(text, done));
    // An empty match, by a look-around alone, would have to be told from one at the end of the match before it.
    if (match.has_value() && match->begin == match->end) {
      return absl::InvalidArgumentError("not supported yet: Replace with a pattern that matches \"\"");
    }
    if (!match.has_value()) break;
    result += text.substr(done, match->begin - done);
    result += content_;
    done = match->end;
  }
  result += text.substr(done);
  return result;
}

}  // namespace titan
