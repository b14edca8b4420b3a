#include "titan/data/normalizer.h"

#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"
#include "titan/data/precompiled.h"
#include "titan/data/replacement.h"
#include "titan/data/unicode.h"
#include "titan/data/white_space.h"

namespace titan {
namespace {

constexpr std::pair<std::string_view, UnicodeForm> kForms[] = {
    {"NFC", UnicodeForm::kNfc}, {"NFD", UnicodeForm::kNfd}, {"NFKC", UnicodeForm::kNfkc}, {"NFKD", UnicodeForm::kNfkd}};

}  // namespace

absl::StatusOr<Normalizer> Normalizer::FromJson(const nlohmann::json& json) {
  Normalizer result;
  if (!json.is_null()) TITAN_RETURN_IF_ERROR(result.Add(json));
  return result;
}

absl::Status Normalizer::Add(const nlohmann::json& component) {
  const std::string type = TypeOf(component);
  for (const auto& [name, form] : kForms) {
    if (type != name) continue;
    steps_.push_back([form = form](std::string_view text) { return NormalizeUnicode(text, form); });
    return absl::OkStatus();
  }
  if (type == "Lowercase") {
    steps_.push_back([](std::string_view text) { return LowercaseUnicode(text); });
    return absl::OkStatus();
  }
  if (type == "Precompiled") return AddPrecompiled(component);
  if (type == "Strip") {
    TITAN_ASSIGN_OR_RETURN(const bool left, BoolMember(component, "strip_left", true));
    TITAN_ASSIGN_OR_RETURN(const bool right, BoolMember(component, "strip_right", true));
    steps_.push_back([left, right](std::string_view text) {
      if (left) text.remove_prefix(LeadingSpace(text));
      return std::string(right ? text.substr(0, TrailingSpace(text)) : text);
    });
    return absl::OkStatus();
  }
  if (type == "Prepend") {
    TITAN_ASSIGN_OR_RETURN(const std::string prefix, StringMember(component, "prepend"));
    TITAN_RETURN_IF_ERROR(GrowBy(static_cast<int64_t>(prefix.size()) + 1, &growth_));
    steps_.push_back([prefix](std::string_view text) { return text.empty() ? "" : absl::StrCat(prefix, text); });
    return absl::OkStatus();
  }
  if (type == "Replace") {
    TITAN_ASSIGN_OR_RETURN(Replacement replacement, Replacement::FromJson(component));
    TITAN_RETURN_IF_ERROR(GrowBy(replacement.growth(), &growth_));
    steps_.push_back([replacement](std::string_view text) { return replacement.Apply(text); });
    return absl::OkStatus();
  }
  if (type == "Sequence") {
    const nlohmann::json& components = Member(component, "normalizers");
    if (!components.is_array()) return absl::InvalidArgumentError("normalizer: \"normalizers\" must be a list");
    for (const nlohmann::json& part : components) TITAN_RETURN_IF_ERROR(Add(part));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("not supported yet: the normalizer \"", type, "\""));
}

absl::Status Normalizer::AddPrecompiled(const nlohmann::json& component) {
  TITAN_ASSIGN_OR_RETURN(const std::string base64, StringMember(component, "precompiled_charsmap"));
  std::string charsmap;
  if (!absl::Base64Unescape(base64, &charsmap)) {
    return absl::InvalidArgumentError("Precompiled: \"precompiled_charsmap\" is not base64");
  }
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const Precompiled> precompiled, Precompiled::Parse(charsmap));
  TITAN_RETURN_IF_ERROR(GrowBy(precompiled->growth(), &growth_));
  steps_.push_back([precompiled](std::string_view text) { return precompiled->Apply(text); });
  return absl::OkStatus();
}

absl::StatusOr<std::string_view> Normalizer::Normalize(std::string_view text, std::string* storage) const {
  for (const Step& step : steps_) {
    TITAN_ASSIGN_OR_RETURN(std::string result, step(text));
    *storage = std::move(result);
    text = *storage;
  }
  return text;
}

}  // namespace titan
