#include "titan/model/precision.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr char kAutoFilter[] = "auto_filter_small_kn";

bool IsFiltered(const ParameterSpec& parameter, const config::Quantize::Float8& float8) {
  const int64_t out = parameter.shape[0], in = parameter.shape[1];
  return std::any_of(float8.filter_fqns().begin(), float8.filter_fqns().end(), [&](const std::string& filter) {
    if (filter == kAutoFilter) return in <= 4096 && out <= 1024;
    return absl::StrContains(parameter.name, filter);
  });
}

LinearPrecision PrecisionOf(config::Quantize::Float8::RecipeName recipe) {
  switch (recipe) {
    case config::Quantize::Float8::RECIPE_NAME_TENSORWISE:
      return LinearPrecision::kFloat8Tensorwise;
    case config::Quantize::Float8::RECIPE_NAME_ROWWISE:
      return LinearPrecision::kFloat8Rowwise;
    case config::Quantize::Float8::RECIPE_NAME_ROWWISE_WITH_GW_HP:
      return LinearPrecision::kFloat8RowwiseGwHp;
    default:
      return LinearPrecision::kGiven;
  }
}

}  // namespace

std::vector<LinearPrecision> PrecisionsOf(const BlockSpec& block, const config::Quantize& quantize) {
  const config::Quantize::Float8& float8 = quantize.linear().float8();
  std::vector<LinearPrecision> precisions;
  for (const ParameterSpec& parameter : block.parameters) {
    const bool converts = parameter.shape.size() == 2 && !IsFiltered(parameter, float8);
    precisions.push_back(converts ? PrecisionOf(float8.recipe_name()) : LinearPrecision::kGiven);
  }
  return precisions;
}

}  // namespace titan
