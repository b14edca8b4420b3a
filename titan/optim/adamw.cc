#include "titan/optim/adamw.h"

#include <ATen/ops/zeros_like.h>

#include <utility>

#include "kernels/adamw.h"
#include "titan/config/experiment.pb.h"

namespace titan {

AdamW::AdamW(const config::Optimizer& config, std::vector<at::Tensor> parameters)
    : beta1_(config.beta1()),
      beta2_(config.beta2()),
      eps_(config.eps()),
      weight_decay_(config.weight_decay()),
      parameters_(std::move(parameters)) {
  for (const at::Tensor& parameter : parameters_) {
    exp_avg_.push_back(at::zeros_like(parameter));
    exp_avg_sq_.push_back(at::zeros_like(parameter));
  }
}

void AdamW::Update(const std::vector<at::Tensor>& gradients, double lr, double gradient_scale,
                   const std::vector<at::Tensor>& copies) {
  ++num_updates_;
  AdamWStep({.parameters = parameters_,
             .gradients = gradients,
             .exp_avg = exp_avg_,
             .exp_avg_sq = exp_avg_sq_,
             .copies = copies},
            {.lr = lr,
             .beta1 = beta1_,
             .beta2 = beta2_,
             .eps = eps_,
             .weight_decay = weight_decay_,
             .num_updates = num_updates_,
             .gradient_scale = gradient_scale});
}

}  // namespace titan
