#include "titan/data/pre_tokenizer.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

// What ByteLevel splits by when `use_regex` is true: GPT-2's expression.
constexpr char kGpt2Pattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

absl::StatusOr<std::string> PatternOf(const nlohmann::json& component) {
  const nlohmann::json& pattern = Member(component, "pattern");
  if (!Member(pattern, "String").is_null()) {
    TITAN_ASSIGN_OR_RETURN(const std::string text, StringMember(pattern, "String"));
    return QuoteRegex(text);
  }
  return StringMember(pattern, "Regex");
}

// Appends the words of one piece.
absl::Status SplitPiece(const Regex& regex, bool keep_matches, bool keep_gaps, std::string_view piece,
                        std::vector<std::string_view>* words) {
  const auto add = [&](size_t begin, size_t end, bool keep) {
    if (keep && begin < end) words->push_back(piece.substr(begin, end - begin));
  };
  size_t done = 0;  // all before is in `words`
  size_t from = 0;
  while (from <= piece.size()) {
    TITAN_ASSIGN_OR_RETURN(const std::optional<Regex::Match> match, regex.Find(piece, from));
    if (!match.has_value()) break;
    add(done, match->begin, keep_gaps);
    add(match->begin, match->end, keep_matches);
    done = from = match->end;
    if (match->begin == match->end) from += from < piece.size() ? Utf8Length(piece[from]) : 1;
  }
  add(done, piece.size(), keep_gaps);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::FromJson(const nlohmann::json& json) {
  PreTokenizer result;
  TITAN_RETURN_IF_ERROR(result.Add(json));
  if (!result.is_byte_level_) {
    return absl::InvalidArgumentError("not supported yet: a tokenizer whose pre_tokenizer does not end in ByteLevel");
  }
  return result;
}

absl::Status PreTokenizer::Add(const nlohmann::json& component) {
  if (is_byte_level_) {
    return absl::InvalidArgumentError("not supported yet: a pre_tokenizer component after ByteLevel");
  }
  const std::string type = TypeOf(component);
  if (type == "Split") return AddSplit(component);
  if (type == "ByteLevel") return AddByteLevel(component);
  if (type == "Digits") {
    TITAN_ASSIGN_OR_RETURN(const bool individual, BoolMember(component, "individual_digits", false));
    return AddRegex(individual ? "\\p{N}" : "\\p{N}+", true, true);
  }
  if (type == "Sequence") {
    const nlohmann::json& components = Member(component, "pretokenizers");
    if (!components.is_array()) return absl::InvalidArgumentError("pre_tokenizer: \"pretokenizers\" must be a list");
    for (const nlohmann::json& part : components) TITAN_RETURN_IF_ERROR(Add(part));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("not supported yet: the pre_tokenizer \"", type, "\""));
}

absl::Status PreTokenizer::AddRegex(std::string_view pattern, bool keep_matches, bool keep_gaps) {
  TITAN_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(pattern));
  steps_.push_back({std::move(regex), keep_matches, keep_gaps});
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddSplit(const nlohmann::json& component) {
  TITAN_ASSIGN_OR_RETURN(const std::string pattern, PatternOf(component));
  TITAN_ASSIGN_OR_RETURN(const std::string behavior, StringMember(component, "behavior"));
  TITAN_ASSIGN_OR_RETURN(const bool invert, BoolMember(component, "invert", false));
  if (behavior == "Isolated") return AddRegex(pattern, true, true);
  if (behavior == "Removed") return AddRegex(pattern, /*keep_matches=*/invert, /*keep_gaps=*/!invert);
  return absl::InvalidArgumentError(absl::StrCat("not supported yet: Split with the behavior \"", behavior, "\""));
}

absl::Status PreTokenizer::AddByteLevel(const nlohmann::json& component) {
  TITAN_ASSIGN_OR_RETURN(const bool add_prefix_space, BoolMember(component, "add_prefix_space", true));
  TITAN_ASSIGN_OR_RETURN(const bool use_regex, BoolMember(component, "use_regex", true));
  if (add_prefix_space) return absl::InvalidArgumentError("not supported yet: ByteLevel with add_prefix_space");
  if (use_regex) TITAN_RETURN_IF_ERROR(AddRegex(kGpt2Pattern, true, true));
  is_byte_level_ = true;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string_view>> PreTokenizer::Split(std::string_view text) const {
  std::vector<std::string_view> words;
  if (!text.empty()) words.push_back(text);
  for (const Step& step : steps_) {
    std::vector<std::string_view> parts;
    parts.reserve(words.size() + text.size() / 4);
    for (const std::string_view word : words) {
      TITAN_RETURN_IF_ERROR(SplitPiece(step.regex, step.keep_matches, step.keep_gaps, word, &parts));
    }
    words = std::move(parts);
  }
  return words;
}

}  // namespace titan
