#include "titan/checkpoint/hf_names.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr std::string_view kNumber = "{N}";

// What "{N}" of `pattern` stands for in `name` ("" in a pattern without it); nullopt if the name does not match.
std::optional<std::string_view> Match(std::string_view pattern, std::string_view name) {
  const size_t at = pattern.find(kNumber);
  if (at == std::string_view::npos) {
    return pattern == name ? std::make_optional(std::string_view()) : std::nullopt;
  }
  const std::string_view before = pattern.substr(0, at);
  const std::string_view after = pattern.substr(at + kNumber.size());
  if (!absl::StartsWith(name, before)) return std::nullopt;
  name.remove_prefix(before.size());
  const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  if (digits == 0 || name.substr(digits) != after) return std::nullopt;
  if (digits > 1 && name[0] == '0') return std::nullopt;  // "layers.01" would be a second name of layer 1
  return name.substr(0, digits);
}

std::string Fill(std::string_view pattern, std::string_view number) {
  const size_t at = pattern.find(kNumber);
  if (at == std::string_view::npos) return std::string(pattern);
  return absl::StrCat(pattern.substr(0, at), number, pattern.substr(at + kNumber.size()));
}

}  // namespace

absl::StatusOr<HfNames> HfNames::Of(const config::Model& model) {
  if (model.name() == config::Model::FAMILY_LLAMA3) return Llama3HfNames();
  return absl::UnimplementedError(
      absl::StrCat("no Hugging Face names for the model family ", config::Model::Family_Name(model.name())));
}

std::optional<std::string> HfNames::ToHf(std::string_view titan_name) const {
  for (const HfNamePair& pair : parameters_) {
    if (const auto number = Match(pair.titan, titan_name)) return Fill(pair.hf, *number);
  }
  return std::nullopt;
}

std::optional<std::string> HfNames::ToTitan(std::string_view hf_name) const {
  for (const HfNamePair& pair : parameters_) {
    if (const auto number = Match(pair.hf, hf_name)) return Fill(pair.titan, *number);
  }
  return std::nullopt;
}

bool HfNames::IsIgnored(std::string_view hf_name) const {
  return std::any_of(ignored_.begin(), ignored_.end(),
                     [&](std::string_view pattern) { return Match(pattern, hf_name).has_value(); });
}

}  // namespace titan
