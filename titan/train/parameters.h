// The parameters of a model on one rank: masters in fp32, what the blocks compute with, and the gradients of a step.
//
//   auto parameters = Parameters::Create(model.spec(), options, [&](const ParameterSpec& spec) { ... });
//   ForwardBackward(model, **parameters, microbatch, 1.0 / valid_tokens, recompute);  // once per microbatch
//   optimizer.Update((*parameters)->gradients(), lr, scale);                          // changes the masters
//   (*parameters)->FinishUpdate();                                                    // and so the compute copies

#ifndef TITAN_TRAIN_PARAMETERS_H_
#define TITAN_TRAIN_PARAMETERS_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/plan/model_spec.h"
#include "titan/train/walk.h"

namespace titan {

class Parameters : public BlockParameters {
 public:
  struct Options {
    at::Device device = at::kCPU;
    at::ScalarType dtype = at::kFloat;          // of masters and gradients
    at::ScalarType compute_dtype = at::kFloat;  // of what the blocks see; masters themselves where it is `dtype`
  };
  // The initial value of a parameter: a tensor of its shape, of any floating dtype, on any device.
  using InitialValue = std::function<absl::StatusOr<at::Tensor>(const ParameterSpec&)>;

  // Asks for the values one by one, so that never more than one of them exists besides the masters.
  static absl::StatusOr<std::unique_ptr<Parameters>> Create(const ModelSpec& spec, const Options& options,
                                                            const InitialValue& initial_value);

  // In the order of the blocks; a shared parameter once.
  const std::vector<std::string>& names() const { return names_; }
  const std::vector<at::Tensor>& masters() const { return masters_; }
  // Sums over the microbatches since the last ClearGradients, one per master and of its dtype. Undefined before the
  // first microbatch.
  const std::vector<at::Tensor>& gradients() const { return gradients_; }

  // Frees the gradients.
  void ClearGradients();
  // Rounds the masters into the compute copies again.
  void FinishUpdate();

  std::vector<at::Tensor> Weights(size_t block) override;
  void AddGradients(size_t block, std::vector<at::Tensor> gradients) override;

 private:
  Parameters() = default;

  std::vector<std::string> names_;
  std::vector<at::Tensor> masters_;
  std::vector<at::Tensor> computed_;  // the masters themselves if they have the compute dtype
  std::vector<at::Tensor> gradients_;
  std::vector<std::vector<size_t>> block_indices_;  // of each block: into the lists above, own parameters, then shared
};

}  // namespace titan

#endif  // TITAN_TRAIN_PARAMETERS_H_
