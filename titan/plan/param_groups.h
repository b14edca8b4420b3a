// Which settings of the optimizer each parameter has: optimizer.param_groups, told by the names of a model's
// parameters. No LibTorch here: a plan refuses patterns that cannot be meant, and counts what the averages take.
//
//   TITAN_ASSIGN_OR_RETURN(const ParamGroups groups, ResolveParamGroups(experiment.optimizer(), spec));
//   groups.Of("layers.0.attention.wq.weight").lr;

#ifndef TITAN_PLAN_PARAM_GROUPS_H_
#define TITAN_PLAN_PARAM_GROUPS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/plan/model_spec.h"
#include "titan/plan/unit_layout.h"

namespace titan::config {
class Optimizer;
}

namespace titan {

// Of one group, with nothing left open.
struct ParamGroupSettings {
  bool is_muon = false;  // otherwise AdamW
  double lr = 0;         // before the schedule's factor
  double weight_decay = 0;
  double beta1 = 0, beta2 = 0, eps = 0;  // of AdamW
};

struct ParamGroups {
  std::vector<ParamGroupSettings> groups;  // optimizer.param_groups, and last the optimizer's own
  std::map<std::string, size_t> index_of;  // of the group that has a parameter, by the parameter's name

  const ParamGroupSettings& Of(const std::string& parameter) const { return groups[index_of.at(parameter)]; }
};

// The first group whose pattern is found in a parameter's name takes it. InvalidArgument has a line for each pattern
// that is no regular expression or takes nothing, and for each parameter that Muon cannot take: it takes matrices.
absl::StatusOr<ParamGroups> ResolveParamGroups(const config::Optimizer& optimizer, const ModelSpec& spec);

// Every element of a shard has one average: of gradients by AdamW, or Muon's. Averages of squares are kept for this
// many elements, from the shard's beginning: all of them if AdamW has the whole unit, else up to the last that it has.
// (Norms lie first in a unit, so that matrices with Muon cost nothing here.)
int64_t NumSquares(const BlockSpec& block, const UnitLayout& layout, const ParamGroups& groups, int64_t rank);

}  // namespace titan

#endif  // TITAN_PLAN_PARAM_GROUPS_H_
