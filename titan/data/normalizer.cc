#include "titan/data/normalizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/data/json.h"
#include "titan/data/replacement.h"
#include "titan/data/unicode.h"

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

absl::StatusOr<std::string_view> Normalizer::Normalize(std::string_view text, std::string* storage) const {
  for (const Step& step : steps_) {
    TITAN_ASSIGN_OR_RETURN(std::string result, step(text));
    *storage = std::move(result);
    text = *storage;
  }
  return text;
}

}  // namespace titan
