#include "titan/config/optimizer_rules.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "titan/config/experiment.pb.h"

namespace titan {

// A step of an average changes it by a share of 1 - beta; nearest values of bfloat16 are 2^-8 to 2^-7 of it apart.
void StateInBfloat16(const config::Experiment& experiment, ConfigErrors& errors) {
  const config::Optimizer& optimizer = experiment.optimizer();
  if (!optimizer.state_in_bfloat16()) return;
  constexpr double kMax = 0.99;
  const auto check = [&](const std::string& path, double beta) {
    if (beta <= kMax) return;
    errors.Add(path, absl::StrCat(beta, " is above ", kMax,
                                  ": an average of so many steps stands still in bfloat16; lower it, or leave "
                                  "optimizer.state_in_bfloat16 out"));
  };
  check("optimizer.beta1", optimizer.beta1());
  check("optimizer.beta2", optimizer.beta2());
  check("optimizer.momentum", optimizer.momentum());
  for (int i = 0; i < optimizer.param_groups_size(); ++i) {
    const std::string group = absl::StrCat("optimizer.param_groups.", i);
    check(group + ".beta1", optimizer.param_groups(i).beta1());
    check(group + ".beta2", optimizer.param_groups(i).beta2());
  }
}

void MuonGroups(const config::Experiment& experiment, ConfigErrors& errors) {
  for (int i = 0; i < experiment.optimizer().param_groups_size(); ++i) {
    const config::ParamGroup& group = experiment.optimizer().param_groups(i);
    if (group.name() != config::Optimizer::NAME_MUON) continue;
    const std::pair<std::string_view, bool> settings[] = {
        {"beta1", group.has_beta1()}, {"beta2", group.has_beta2()}, {"eps", group.has_eps()}};
    for (const auto& [name, is_set] : settings) {
      if (!is_set) continue;
      errors.Add(absl::StrCat("optimizer.param_groups.", i, ".", name),
                 "has no effect on Muon; its settings are optimizer.momentum, nesterov, ns_steps and adjust_lr_fn");
    }
  }
}

}  // namespace titan
