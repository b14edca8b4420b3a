#include "titan/data/unigram.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
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
  TITAN_ASSIGN_OR_RETURN(const bool byte_fallback, BoolMember(model, "byte_fallback", false));
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = byte_fallback ? result->ids_.find(ByteFallbackToken(byte)) : result->ids_.end();
    result->fallback_ids_[byte] = found == result->ids_.end() ? -1 : found->second;
  }
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
  for (const auto& [token, id] : vocabulary_) {
    if (!token.empty()) ids_[token] = id;  // of equals the last one counts
  }
  BuildTree();
  return absl::OkStatus();
}

void Unigram::BuildTree() {
  std::vector<std::string_view> tokens;
  tokens.reserve(ids_.size());
  for (const auto& [token, id] : ids_) tokens.push_back(token);
  std::sort(tokens.begin(), tokens.end());
  // Of each node of a depth, the tokens that begin with the bytes that lead to it.
  struct Range {
    size_t begin;
    size_t end;
  };
  std::vector<Range> level = {{0, tokens.size()}};
  nodes_.emplace_back();
  labels_.push_back(0);
  for (size_t depth = 0; !level.empty(); ++depth) {
    std::vector<Range> next_level;
    size_t number = nodes_.size() - level.size();
    for (Range range : level) {
      Node node;
      if (range.begin < range.end && tokens[range.begin].size() == depth) {
        node.id = ids_[tokens[range.begin++]];
        node.score = scores_[node.id];
      }
      node.first_child = static_cast<uint32_t>(nodes_.size());
      while (range.begin < range.end) {
        const char byte = tokens[range.begin][depth];
        size_t end = range.begin + 1;
        while (end < range.end && tokens[end][depth] == byte) ++end;
        next_level.push_back({range.begin, end});
        labels_.push_back(byte);
        nodes_.emplace_back();
        ++node.num_children;
        range.begin = end;
      }
      nodes_[number++] = node;
    }
    level = std::move(next_level);
  }
}

const Unigram::Node* Unigram::Child(const Node& node, unsigned char byte) const {
  if (node.num_children == 0) return nullptr;
  const char* const labels = labels_.data() + node.first_child;
  const void* const found = std::memchr(labels, byte, node.num_children);
  return found == nullptr ? nullptr : &nodes_[node.first_child + (static_cast<const char*>(found) - labels)];
}

Unigram::Parts Unigram::BestParts(std::string_view word) const {
  constexpr size_t kNowhere = std::numeric_limits<size_t>::max();
  struct Path {
    double score = 0;
    size_t begin = kNowhere;  // of its last token
    int32_t id = 0;           // of its last token
  };
  absl::InlinedVector<Path, 64> paths(word.size() + 1);  // the best one to each offset
  const auto offer = [&](size_t begin, size_t end, double token_score, int32_t id) {
    const double score = token_score + paths[begin].score;
    if (paths[end].begin == kNowhere || score > paths[end].score) paths[end] = {score, begin, id};
  };
  for (size_t begin = 0; begin < word.size();) {
    const size_t next = begin + Utf8Length(word[begin]);
    bool has_character = false;
    const Node* node = &nodes_[0];
    for (size_t end = begin + 1; end <= word.size(); ++end) {
      node = Child(*node, word[end - 1]);
      if (node == nullptr) break;
      if (node->id < 0) continue;
      offer(begin, end, node->score, node->id);
      has_character |= end == next;
    }
    if (!has_character) offer(begin, next, unknown_score_, unknown_id_);
    begin = next;
  }
  Parts parts;
  for (size_t end = word.size(); end > 0; end = paths[end].begin) {
    const int32_t id = paths[end].id;
    if (id == unknown_id_ && !parts.empty() && parts.back().id == unknown_id_) {
      parts.back().begin = paths[end].begin;
    } else {
      parts.push_back({paths[end].begin, end, id});
    }
  }
  return parts;
}

void Unigram::EncodeUncached(std::string_view word, std::vector<int64_t>* ids) const {
  const Parts parts = BestParts(word);
  for (size_t i = parts.size(); i-- > 0;) {
    if (parts[i].id != unknown_id_) {
      ids->push_back(parts[i].id);
    } else {
      EncodeUnknown(word.substr(parts[i].begin, parts[i].end - parts[i].begin), ids);
    }
  }
}

void Unigram::EncodeUnknown(std::string_view text, std::vector<int64_t>* ids) const {
  // Unknown characters in a row may spell a token.
  const auto found = ids_.find(text);
  if (found != ids_.end()) {
    ids->push_back(found->second);
    return;
  }
  const auto fallback = [this](char byte) { return fallback_ids_[static_cast<unsigned char>(byte)]; };
  if (std::all_of(text.begin(), text.end(), [&](char byte) { return fallback(byte) >= 0; })) {
    for (const char byte : text) ids->push_back(fallback(byte));
  } else {
    ids->push_back(unknown_id_);
  }
}

void Unigram::Encode(absl::Span<const std::string_view> words, std::vector<int64_t>* ids) const {
  cache_.Append(words, [this](std::string_view word, std::vector<int64_t>* ids) { EncodeUncached(word, ids); }, ids);
}

}  // namespace titan
