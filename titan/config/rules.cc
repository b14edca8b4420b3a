#include "titan/config/rules.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using config::Experiment;

void HeadsDivideDim(const Experiment& experiment, ConfigErrors& errors) {
  const config::Model& model = experiment.model();
  if (model.has_head_dim()) return;
  errors.Add("model.dim", absl::StrCat(model.dim(), " is not divisible by model.n_heads = ", model.n_heads(),
                                       "; change one of them or set model.head_dim"));
}

}  // namespace

const std::vector<Rule>& CrossFieldRules() {
  static const auto& rules = *new std::vector<Rule>{
      {"heads_divide_dim", {"model.dim", "model.n_heads", "model.head_dim"}, &HeadsDivideDim},
  };
  return rules;
}

void CheckRules(const Experiment& experiment, const ConfigErrors& known, ConfigErrors& violations) {
  for (const Rule& rule : CrossFieldRules()) {
    const bool sound =
        std::none_of(rule.reads.begin(), rule.reads.end(), [&](std::string_view path) { return known.Concerns(path); });
    if (sound) rule.check(experiment, violations);
  }
}

}  // namespace titan
