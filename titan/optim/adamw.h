// AdamW with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101) on every parameter: the state of the
// optimizer, and its step. The arithmetic is kernels/adamw.h.
//
//   AdamW optimizer(experiment.optimizer(), parameters);          // averages start at zero
//   optimizer.Update(gradients, lr, ClipCoefficient(norm, 1.0));  // parameters change in place

#ifndef TITAN_OPTIM_ADAMW_H_
#define TITAN_OPTIM_ADAMW_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace titan::config {
class Optimizer;
}

namespace titan {

class AdamW {
 public:
  // `parameters`: contiguous, fp32 or fp64, on one device. They are updated in place.
  AdamW(const config::Optimizer& config, std::vector<at::Tensor> parameters);

  // One step with gradients of the parameters' shapes and dtypes, each multiplied by `gradient_scale` first. `copies`,
  // if not empty, get the new parameters in bf16.
  void Update(const std::vector<at::Tensor>& gradients, double lr, double gradient_scale,
              const std::vector<at::Tensor>& copies = {});

  // Updates done so far; the bias corrections depend on it. Restored with the averages from a checkpoint.
  int64_t num_updates() const { return num_updates_; }
  void set_num_updates(int64_t num_updates) { num_updates_ = num_updates; }

  // The averages of the gradients and of their squares, in the order of the parameters.
  const std::vector<at::Tensor>& exp_avg() const { return exp_avg_; }
  const std::vector<at::Tensor>& exp_avg_sq() const { return exp_avg_sq_; }

 private:
  double beta1_, beta2_, eps_, weight_decay_;
  std::vector<at::Tensor> parameters_, exp_avg_, exp_avg_sq_;
  int64_t num_updates_ = 0;
};

}  // namespace titan

#endif  // TITAN_OPTIM_ADAMW_H_
