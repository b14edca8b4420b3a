#include "titan/data/decoder.h"

#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "titan/base/status_macros.h"
#include "titan/data/byte_level.h"
#include "titan/data/json.h"
#include "titan/data/metaspace.h"
#include "titan/data/replacement.h"
#include "titan/data/utf8.h"

namespace titan {
namespace {

void Fuse(std::vector<std::string>* tokens) { *tokens = {absl::StrJoin(*tokens, "")}; }

// A token outside of the alphabet, such as an added one, stands for itself.
void DecodeByteLevel(std::vector<std::string>* tokens) {
  std::string bytes;
  for (const std::string& token : *tokens) bytes += FromByteLevel(token).value_or(token);
  *tokens = {LossyUtf8(bytes)};
}

// The byte of "<0xE2>".
std::optional<char> FallbackByte(std::string_view token) {
  if (token.size() != 6 || !absl::StartsWith(token, "<0x") || token[5] != '>') return std::nullopt;
  const std::string_view digits = token.substr(token[3] == '+' ? 4 : 3, token[3] == '+' ? 1 : 2);
  for (const char digit : digits) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(digit))) return std::nullopt;
  }
  uint32_t byte = 0;
  if (!absl::SimpleHexAtoi(digits, &byte)) return std::nullopt;
  return static_cast<char>(byte);
}

// Runs of byte tokens become text; each byte of a run that is not UTF-8 becomes U+FFFD.
void DecodeByteFallback(std::vector<std::string>* tokens) {
  std::vector<std::string> result;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (FindInvalidUtf8(bytes).has_value()) {
      result.insert(result.end(), bytes.size(), "\uFFFD");
    } else {
      result.push_back(bytes);
    }
    bytes.clear();
  };
  for (std::string& token : *tokens) {
    if (const std::optional<char> byte = FallbackByte(token)) {
      bytes.push_back(*byte);
      continue;
    }
    flush();
    result.push_back(std::move(token));
  }
  flush();
  *tokens = std::move(result);
}

// Drops up to `start` of the character `content` from the beginning of each token, up to `stop` from its end.
void Strip(std::string_view content, int64_t start, int64_t stop, std::vector<std::string>* tokens) {
  for (std::string& token : *tokens) {
    std::string_view rest = token;
    for (int64_t i = 0; i < start && absl::ConsumePrefix(&rest, content); ++i) {
    }
    for (int64_t i = 0; i < stop && absl::ConsumeSuffix(&rest, content); ++i) {
    }
    token = std::string(rest);
  }
}

}  // namespace

absl::StatusOr<Decoder> Decoder::FromJson(const nlohmann::json& json) {
  Decoder result;
  TITAN_RETURN_IF_ERROR(result.Add(json));
  return result;
}

absl::Status Decoder::Add(const nlohmann::json& component) {
  const std::string type = TypeOf(component);
  if (type == "Replace") return AddReplace(component);
  if (type == "Strip") return AddStrip(component);
  if (type == "Sequence") {
    const nlohmann::json& components = Member(component, "decoders");
    if (!components.is_array()) return absl::InvalidArgumentError("decoder: \"decoders\" must be a list");
    for (const nlohmann::json& part : components) TITAN_RETURN_IF_ERROR(Add(part));
    return absl::OkStatus();
  }
  if (type == "ByteLevel") {
    steps_.push_back(DecodeByteLevel);
  } else if (type == "ByteFallback") {
    steps_.push_back(DecodeByteFallback);
  } else if (type == "Fuse") {
    steps_.push_back(Fuse);
  } else if (type == "Metaspace") {
    TITAN_ASSIGN_OR_RETURN(const Metaspace metaspace, Metaspace::FromJson(component));
    steps_.push_back([metaspace](std::vector<std::string>* tokens) { metaspace.Decode(tokens); });
  } else {
    return absl::InvalidArgumentError(absl::StrCat("not supported yet: the decoder \"", type, "\""));
  }
  return absl::OkStatus();
}

absl::Status Decoder::AddReplace(const nlohmann::json& component) {
  TITAN_ASSIGN_OR_RETURN(const Replacement replacement, Replacement::FromJson(component));
  // A regular expression can give up on a long text, and decoding has no errors.
  if (!replacement.is_literal()) {
    return absl::InvalidArgumentError("not supported yet: the decoder Replace with a regular expression");
  }
  TITAN_RETURN_IF_ERROR(GrowBy(replacement.growth(), &growth_));
  steps_.push_back([replacement](std::vector<std::string>* tokens) {
    for (std::string& token : *tokens) token = replacement.Apply(token).value();
  });
  return absl::OkStatus();
}

absl::Status Decoder::AddStrip(const nlohmann::json& component) {
  TITAN_ASSIGN_OR_RETURN(const std::string content, StringMember(component, "content"));
  TITAN_ASSIGN_OR_RETURN(const int64_t start, IntegerMember(component, "start"));
  TITAN_ASSIGN_OR_RETURN(const int64_t stop, IntegerMember(component, "stop"));
  if (content.empty() || Utf8Length(content[0]) != content.size()) {
    return absl::InvalidArgumentError("Strip: \"content\" must be one character");
  }
  steps_.push_back([=](std::vector<std::string>* tokens) { Strip(content, start, stop, tokens); });
  return absl::OkStatus();
}

std::string Decoder::Decode(std::vector<std::string> tokens) const {
  for (const Step& step : steps_) step(&tokens);
  return absl::StrJoin(tokens, "");
}

}  // namespace titan
