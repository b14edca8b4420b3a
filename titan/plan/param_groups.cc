#include "titan/plan/param_groups.h"

#include <algorithm>
#include <optional>
#include <regex>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

ParamGroupSettings SettingsOf(const config::Optimizer& optimizer) {
  return {.is_muon = optimizer.name() == config::Optimizer::NAME_MUON,
          .lr = optimizer.lr(),
          .weight_decay = optimizer.weight_decay(),
          .beta1 = optimizer.beta1(),
          .beta2 = optimizer.beta2(),
          .eps = optimizer.eps()};
}

ParamGroupSettings SettingsOf(const config::ParamGroup& group, ParamGroupSettings settings) {
  settings.is_muon = group.name() == config::Optimizer::NAME_MUON;
  if (group.has_lr()) settings.lr = group.lr();
  if (group.has_weight_decay()) settings.weight_decay = group.weight_decay();
  if (group.has_beta1()) settings.beta1 = group.beta1();
  if (group.has_beta2()) settings.beta2 = group.beta2();
  if (group.has_eps()) settings.eps = group.eps();
  return settings;
}

std::optional<std::regex> Compile(const std::string& pattern) {
  try {
    return std::regex(pattern, std::regex::ECMAScript);
  } catch (const std::regex_error&) {
    return std::nullopt;
  }
}

std::string PatternPath(size_t group) { return absl::StrCat("optimizer.param_groups.", group, ".pattern"); }

}  // namespace

absl::StatusOr<ParamGroups> ResolveParamGroups(const config::Optimizer& optimizer, const ModelSpec& spec) {
  ParamGroups result;
  std::vector<std::string> reasons;
  std::vector<std::optional<std::regex>> patterns;
  const ParamGroupSettings own = SettingsOf(optimizer);
  for (const config::ParamGroup& group : optimizer.param_groups()) {
    result.groups.push_back(SettingsOf(group, own));
    patterns.push_back(Compile(group.pattern()));
    if (patterns.back().has_value()) continue;
    reasons.push_back(absl::StrCat(PatternPath(patterns.size() - 1), ": \"", group.pattern(),
                                   "\" is no regular expression (ECMAScript)"));
  }
  result.groups.push_back(own);
  std::vector<int64_t> taken(result.groups.size(), 0);
  for (const BlockSpec& block : spec.blocks) {
    for (const ParameterSpec& parameter : block.parameters) {
      const auto found = std::find_if(patterns.begin(), patterns.end(), [&](const std::optional<std::regex>& pattern) {
        return pattern.has_value() && std::regex_search(parameter.name, *pattern);
      });
      const size_t group = static_cast<size_t>(found - patterns.begin());  // behind the last: the optimizer's own
      result.index_of[parameter.name] = group;
      ++taken[group];
      if (!result.groups[group].is_muon || parameter.shape.size() == 2) continue;
      reasons.push_back(
          absl::StrCat(group == patterns.size() ? "optimizer.name" : PatternPath(group), ": Muon takes matrices, but ",
                       parameter.name, " has the shape (", absl::StrJoin(parameter.shape, ", "),
                       "); give it to AdamW: {pattern: \"...\", name: \"AdamW\"} in optimizer.param_groups"));
    }
  }
  for (size_t group = 0; group < patterns.size(); ++group) {
    if (taken[group] > 0 || !patterns[group].has_value()) continue;
    reasons.push_back(
        absl::StrCat(PatternPath(group), ": \"", optimizer.param_groups(static_cast<int>(group)).pattern(),
                     "\" is found in no parameter that an earlier group has not taken; names are as in \"",
                     spec.blocks[spec.blocks.size() / 2].parameters.back().name, "\""));
  }
  if (!reasons.empty()) return absl::InvalidArgumentError(absl::StrJoin(reasons, "\n"));
  return result;
}

int64_t NumSquares(const BlockSpec& block, const UnitLayout& layout, const ParamGroups& groups, int64_t rank) {
  const int64_t first = rank * layout.shard_size, last = first + layout.shard_size;
  bool all = true;
  int64_t count = 0;
  for (size_t i = 0; i < block.parameters.size(); ++i) {
    if (groups.Of(block.parameters[i].name).is_muon) {
      all = false;
      continue;
    }
    int64_t numel = 1;
    for (const int64_t extent : layout.local_shapes[i]) numel *= extent;
    const int64_t end = layout.offsets[i] + numel;
    if (layout.offsets[i] < last && end > first) count = std::max(count, std::min(end, last) - first);
  }
  return all ? layout.shard_size : count;
}

}  // namespace titan
