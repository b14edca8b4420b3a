#include "titan/train/activation_plan.h"

#include <algorithm>
#include <string>

#include "absl/log/check.h"
#include "absl/strings/numbers.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using config::ActivationCheckpoint;

Recompute KindOf(const ActivationCheckpoint& config) {
  switch (config.mode()) {
    case ActivationCheckpoint::MODE_NONE:
      return Recompute::kNothing;
    case ActivationCheckpoint::MODE_SELECTIVE:
      if (config.selective_ac_option() == "op") return Recompute::kCheap;
      if (config.selective_ac_option() == "elementwise") return Recompute::kElementwise;
      return Recompute::kAll;
    default:
      return Recompute::kAll;
  }
}

// Every so manieth layer runs again.
int64_t EveryOf(const ActivationCheckpoint& config) {
  const std::string& option = config.selective_ac_option();
  if (config.mode() != ActivationCheckpoint::MODE_SELECTIVE || option == "op" || option == "elementwise") return 1;
  int64_t every;
  CHECK(absl::SimpleAtoi(option, &every) && every > 0);
  return every;
}

}  // namespace

std::unique_ptr<ActivationOffload> ActivationPlan::MakeOffload(at::Device device) const {
  if (offload_lag == 0) return nullptr;
  return std::make_unique<ActivationOffload>(
      ActivationOffload::Options{.device = device, .blocks = offloaded, .lag = offload_lag});
}

ActivationPlan PlanActivations(const config::ActivationCheckpoint& config, const ModelSpec& spec) {
  std::vector<size_t> layers;  // blocks
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    if (spec.blocks[i].kind == BlockKind::kLayer) layers.push_back(i);
  }
  ActivationPlan plan{.recompute = std::vector<Recompute>(spec.blocks.size(), Recompute::kNothing),
                      .offloaded = std::vector<bool>(spec.blocks.size(), false)};
  const size_t every = EveryOf(config);
  for (size_t i = every - 1; i < layers.size(); i += every) plan.recompute[layers[i]] = KindOf(config);

  const size_t count = config.offload_layers();
  if (count == 0) return plan;
  // Evenly over all but the last layer, so that the copies of one are done when those of the next but one begin, and
  // the last ones when the head's backward begins.
  const size_t all_but_last = layers.size() - 1;
  CHECK_LE(count, all_but_last);
  for (size_t i = 0; i < count; ++i) {
    const size_t block = layers[i * all_but_last / count];
    plan.offloaded[block] = true;
    plan.recompute[block] = Recompute::kNothing;  // there is room for everything
  }
  plan.offload_lag = static_cast<int64_t>(all_but_last / count) + 1;
  return plan;
}

}  // namespace titan
