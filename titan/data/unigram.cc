#include "titan/data/unigram.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

constexpr size_t kMaxTokens = 1 << 24;
// An unknown character scores this much less than the worst token.
constexpr double kUnknownPenalty = 10;

uint64_t Key(int32_t node, unsigned char byte) { return static_cast<uint64_t>(node) << 8 | byte; }

// Hugging Face's JSON reader takes the digits of a number as an integer and multiplies or divides by a power of ten:
// the last bit can differ from the nearest double. Where two paths have equal scores but for rounding, that decides.
// Files have the shortest digits that give `value` back.
double AsHuggingFaceReads(double value) {
  char text[32];
  const char* const end = std::to_chars(text, text + sizeof(text), std::abs(value), std::chars_format::scientific).ptr;
  uint64_t digits = 0;
  int exponent = 0;
  const char* c = text;
  for (bool in_fraction = false; c != end && *c != 'e'; ++c) {
    if (*c == '.') {
      in_fraction = true;
      continue;
    }
    digits = digits * 10 + (*c - '0');
    if (in_fraction) --exponent;
  }
  exponent += std::atoi(std::string(c + 1, end).c_str());
  const auto power_of_ten = [](int n) { return std::strtod(absl::StrCat("1e", n).c_str(), nullptr); };
  double result = static_cast<double>(digits);
  for (; exponent < -308; exponent += 308) result /= 1e308;
  result = exponent >= 0 ? result * power_of_ten(exponent) : result / power_of_ten(-exponent);
  return std::copysign(result, value);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Unigram::FromJson(const nlohmann::json& model) {
  std::unique_ptr<Unigram> result(new Unigram());
  TITAN_RETURN_IF_ERROR(result->ReadVocabulary(Member(model, "vocab")));
  if (Member(model, "unk_id").is_null()) {
    return absl::InvalidArgumentError("not supported yet: Unigram without \"unk_id\" (unknown text would be an error)");
  }
  TITAN_ASSIGN_OR_RETURN(const int64_t unknown_id, IntegerMember(model, "unk_id"));
  if (unknown_id >= static_cast<int64_t>(result->scores_.size())) {
    return absl::InvalidArgumentError(absl::StrCat("model: no token has the \"unk_id\" ", unknown_id));
  }
  result->unknown_id_ = static_cast<int32_t>(unknown_id);
  TITAN_ASSIGN_OR_RETURN(result->byte_fallback_, BoolMember(model, "byte_fallback", false));
  return std::unique_ptr<Model>(std::move(result));
}

absl::Status Unigram::ReadVocabulary(const nlohmann::json& vocabulary) {
  if (!vocabulary.is_array() || vocabulary.empty() || vocabulary.size() >= kMaxTokens) {
    return absl::InvalidArgumentError("model: \"vocab\" of Unigram must be a list of at least one [\"token\", score]");
  }
  for (const nlohmann::json& entry : vocabulary) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      return absl::InvalidArgumentError(
          absl::StrCat("model: entry ", vocabulary_.size(), " of \"vocab\" must be [\"token\", score]"));
    }
    vocabulary_.emplace_back(entry[0].get<std::string>(), static_cast<int32_t>(vocabulary_.size()));
    const double score = entry[1].get<double>();
    scores_.push_back(entry[1].is_number_float() ? AsHuggingFaceReads(score) : score);
  }
  unknown_score_ = *std::min_element(scores_.begin(), scores_.end()) - kUnknownPenalty;
  token_at_.push_back(-1);
  for (const auto& [token, id] : vocabulary_) {
    if (token.empty()) continue;
    ids_[token] = id;  // of equals the last one counts
    int32_t node = 0;
    for (const char byte : token) {
      const auto [child, added] =
          children_.try_emplace(Key(node, static_cast<unsigned char>(byte)), static_cast<int32_t>(token_at_.size()));
      if (added) token_at_.push_back(-1);
      node = child->second;
    }
    token_at_[node] = id;
  }
  return absl::OkStatus();
}

int32_t Unigram::Child(int32_t node, unsigned char byte) const {
  const auto found = children_.find(Key(node, byte));
  return found == children_.end() ? -1 : found->second;
}

std::vector<Unigram::Part> Unigram::BestParts(std::string_view word) const {
  constexpr size_t kNowhere = std::numeric_limits<size_t>::max();
  struct Path {
    double score = 0;
    size_t begin = kNowhere;  // of its last token
    int32_t id = 0;           // of its last token
  };
  std::vector<Path> paths(word.size() + 1);  // the best one to each offset
  const auto offer = [&](size_t begin, size_t end, double token_score, int32_t id) {
    const double score = token_score + paths[begin].score;
    if (paths[end].begin == kNowhere || score > paths[end].score) paths[end] = {score, begin, id};
  };
  for (size_t begin = 0; begin < word.size();) {
    const size_t next = begin + Utf8Length(word[begin]);
    bool has_character = false;
    int32_t node = 0;
    for (size_t end = begin + 1; end <= word.size(); ++end) {
      node = Child(node, word[end - 1]);
      if (node < 0) break;
      const int32_t id = token_at_[node];
      if (id < 0) continue;
      offer(begin, end, scores_[id], id);
      has_character |= end == next;
    }
    if (!has_character) offer(begin, next, unknown_score_, unknown_id_);
    begin = next;
  }
  std::vector<Part> parts;  // from the last one
  for (size_t end = word.size(); end > 0; end = paths[end].begin) {
    const bool is_known = paths[end].id != unknown_id_;
    if (!is_known && !parts.empty() && !parts.back().is_known) {
      parts.back().begin = paths[end].begin;
    } else {
      parts.push_back({paths[end].begin, end, is_known});
    }
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<int32_t> Unigram::EncodeUncached(std::string_view word) const {
  std::vector<int32_t> ids;
  for (const Part& part : BestParts(word)) {
    const std::string_view text = word.substr(part.begin, part.end - part.begin);
    // Unknown characters in a row may spell a token.
    const auto found = ids_.find(text);
    if (found != ids_.end()) {
      ids.push_back(found->second);
      continue;
    }
    std::vector<int32_t> bytes;
    for (size_t i = 0; byte_fallback_ && i < text.size(); ++i) {
      const auto byte = ids_.find(ByteFallbackToken(text[i]));
      if (byte == ids_.end()) break;
      bytes.push_back(byte->second);
    }
    if (bytes.size() == text.size()) {
      ids.insert(ids.end(), bytes.begin(), bytes.end());
    } else {
      ids.push_back(unknown_id_);
    }
  }
  return ids;
}

void Unigram::Encode(std::string_view word, std::vector<int64_t>* ids) const {
  cache_.Append(word, [this](std::string_view part) { return EncodeUncached(part); }, ids);
}

}  // namespace titan
