#include "titan/data/pre_tokenizer.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"
#include "titan/data/replacement.h"
#include "titan/data/utf8.h"
#include "titan/data/white_space.h"

namespace titan {
namespace {

// What ByteLevel splits by when `use_regex` is true: GPT-2's expression.
constexpr char kGpt2Pattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

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

// Appends what lies between white space.
void SplitAtWhiteSpace(std::string_view piece, std::vector<std::string_view>* words) {
  while (true) {
    piece.remove_prefix(LeadingSpace(piece));
    if (piece.empty()) return;
    words->push_back(piece.substr(0, UntilSpace(piece)));
    piece.remove_prefix(words->back().size());
  }
}

// Appends the words that Metaspace makes of `pieces`; they live in `*storage`.
void ApplyMetaspace(const Metaspace& metaspace, const std::vector<std::string_view>& pieces, const char* start,
                    std::string* storage, std::vector<std::string_view>* words) {
  std::vector<size_t> ends;
  ends.reserve(pieces.size());
  storage->clear();
  for (const std::string_view piece : pieces) {
    metaspace.Replace(piece, piece.data() == start, storage);
    ends.push_back(storage->size());
  }
  size_t begin = 0;
  for (const size_t end : ends) {
    metaspace.Split(std::string_view(*storage).substr(begin, end - begin), words);
    begin = end;
  }
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::FromJson(const nlohmann::json& json) {
  PreTokenizer result;
  if (!json.is_null()) TITAN_RETURN_IF_ERROR(result.Add(json));
  return result;
}

absl::Status PreTokenizer::Add(const nlohmann::json& component) {
  if (is_byte_level_) {
    return absl::InvalidArgumentError("not supported yet: a pre_tokenizer component after ByteLevel");
  }
  const std::string type = TypeOf(component);
  if (type == "Split") return AddSplit(component);
  if (type == "ByteLevel") return AddByteLevel(component);
  if (type == "Metaspace") return AddMetaspace(component);
  if (type == "WhitespaceSplit") {
    steps_.emplace_back(std::in_place_type<WhiteSpaceSplit>);
    return absl::OkStatus();
  }
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
  steps_.push_back(RegexSplit{std::move(regex), keep_matches, keep_gaps});
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

absl::Status PreTokenizer::AddMetaspace(const nlohmann::json& component) {
  if (has_metaspace_) return absl::InvalidArgumentError("not supported yet: a second Metaspace");
  TITAN_ASSIGN_OR_RETURN(Metaspace metaspace, Metaspace::FromJson(component));
  has_metaspace_ = true;
  needs_start_ = metaspace.needs_start();
  steps_.push_back(std::move(metaspace));
  return absl::OkStatus();
}

absl::Status PreTokenizer::Split(std::string_view text, bool at_start, std::string* storage,
                                 std::vector<std::string_view>* words) const {
  words->clear();
  if (!text.empty()) words->push_back(text);
  std::vector<std::string_view> pieces;
  for (const Step& step : steps_) {
    std::swap(pieces, *words);
    words->clear();
    words->reserve(pieces.size() + text.size() / 4);
    if (const Metaspace* metaspace = std::get_if<Metaspace>(&step)) {
      ApplyMetaspace(*metaspace, pieces, at_start ? text.data() : nullptr, storage, words);
      continue;
    }
    if (std::holds_alternative<WhiteSpaceSplit>(step)) {
      for (const std::string_view piece : pieces) SplitAtWhiteSpace(piece, words);
      continue;
    }
    const auto& split = std::get<RegexSplit>(step);
    for (const std::string_view piece : pieces) {
      TITAN_RETURN_IF_ERROR(SplitPiece(split.regex, split.keep_matches, split.keep_gaps, piece, words));
    }
  }
  return absl::OkStatus();
}

}  // namespace titan
