// Makes everything that a run depends on explicit in the message.

#ifndef TITAN_CONFIG_DEFAULTS_H_
#define TITAN_CONFIG_DEFAULTS_H_

namespace titan::config {
class Experiment;
}

namespace titan {

// Sets every unset field that has a default, in all groups (creating them) except those whose absence means something
// (`optional` in options.proto, such as model.moe). Then the defaults that depend on other fields:
//   model.n_kv_heads = n_heads, model.head_dim = dim / n_heads, lr_scheduler.total_steps = training.steps.
void FillDefaults(config::Experiment& experiment);

}  // namespace titan

#endif  // TITAN_CONFIG_DEFAULTS_H_
