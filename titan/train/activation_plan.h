// Where what each block keeps between forward and backward is, by the experiment's activation_checkpoint.
//
//   ActivationPlan plan = PlanActivations(experiment.activation_checkpoint(), model.spec());

#ifndef TITAN_TRAIN_ACTIVATION_PLAN_H_
#define TITAN_TRAIN_ACTIVATION_PLAN_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "titan/parallel/activation_offload.h"
#include "titan/parallel/walk.h"
#include "titan/plan/model_spec.h"

namespace titan::config {
class ActivationCheckpoint;
}

namespace titan {

// The embedding and the head never gain by any of it.
struct ActivationPlan {
  std::vector<Recompute> recompute;  // of each block: all layers or every n-th, as a whole or what is cheap
  std::vector<bool> offloaded;       // of each block: ActivationOffload::Options::blocks
  int64_t offload_lag = 0;           // ActivationOffload::Options::lag; 0: nothing is offloaded

  // Null: nothing is offloaded.
  std::unique_ptr<ActivationOffload> MakeOffload(at::Device device) const;
};

// The last layer, whose backward comes at once, is never offloaded.
ActivationPlan PlanActivations(const config::ActivationCheckpoint& config, const ModelSpec& spec);

}  // namespace titan

#endif  // TITAN_TRAIN_ACTIVATION_PLAN_H_
