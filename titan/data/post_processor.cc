#include "titan/data/post_processor.h"

#include <limits>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"

namespace titan {
namespace {

// Not negative; that a token has it is checked by the tokenizer, which knows them.
std::optional<int64_t> ReadId(const nlohmann::json& json) {
  if (!json.is_number_unsigned() || json.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return std::nullopt;
  }
  return json.get<int64_t>();
}

absl::Status AddTemplateProcessing(const nlohmann::json& component, PostProcessor* result) {
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
    for (const nlohmann::json& element : ids) {
      const std::optional<int64_t> id = ReadId(element);
      if (!id.has_value()) return absl::InvalidArgumentError(absl::StrCat("TemplateProcessing: ids of ", name));
      (sequences == 0 ? before : after).push_back(*id);
    }
  }
  if (sequences != 1) return absl::InvalidArgumentError("TemplateProcessing: \"single\" must hold one Sequence");
  result->before.insert(result->before.begin(), before.begin(), before.end());
  result->after.insert(result->after.end(), after.begin(), after.end());
  return absl::OkStatus();
}

// "cls": ["<s>", 0], "sep": ["</s>", 2].
absl::Status AddRobertaProcessing(const nlohmann::json& component, PostProcessor* result) {
  const auto id_of = [&](const char* key) -> absl::StatusOr<int64_t> {
    const nlohmann::json& token = Member(component, key);
    const bool is_pair = token.is_array() && token.size() == 2 && token[0].is_string();
    const std::optional<int64_t> id = is_pair ? ReadId(token[1]) : std::nullopt;
    if (!id.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat("RobertaProcessing: \"", key, "\" must be [\"token\", id]"));
    }
    return *id;
  };
  TITAN_ASSIGN_OR_RETURN(const int64_t cls, id_of("cls"));
  TITAN_ASSIGN_OR_RETURN(const int64_t sep, id_of("sep"));
  result->before.insert(result->before.begin(), cls);
  result->after.push_back(sep);
  return absl::OkStatus();
}

absl::Status Add(const nlohmann::json& component, PostProcessor* result) {
  const std::string type = TypeOf(component);
  if (type == "ByteLevel") return absl::OkStatus();
  if (type == "TemplateProcessing") return AddTemplateProcessing(component, result);
  if (type == "RobertaProcessing") return AddRobertaProcessing(component, result);
  if (type == "Sequence") {
    const nlohmann::json& processors = Member(component, "processors");
    if (!processors.is_array()) return absl::InvalidArgumentError("post_processor: \"processors\" must be a list");
    for (const nlohmann::json& processor : processors) TITAN_RETURN_IF_ERROR(Add(processor, result));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("not supported yet: the post_processor \"", type, "\""));
}

}  // namespace

absl::StatusOr<PostProcessor> ReadPostProcessor(const nlohmann::json& json) {
  PostProcessor result;
  if (!json.is_null()) TITAN_RETURN_IF_ERROR(Add(json, &result));
  return result;
}

}  // namespace titan
