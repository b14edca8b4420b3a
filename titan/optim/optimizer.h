// The step of the optimizer over all parameters of a rank, and its state: AdamW with decoupled weight decay (Loshchilov
// and Hutter 2019, arXiv:1711.05101; kernels/adamw.h) and Muon (muon.h), each for the parameters that
// optimizer.param_groups gives it.
//
//   TITAN_ASSIGN_OR_RETURN(auto optimizer, Optimizer::Create(experiment.optimizer(), spec, parameters, groups,
//   options)); optimizer->Update(schedule.Factor(step), ClipCoefficient(norm, 1.0));  // masters and copies change in
//   place
//
// State is sharded like the masters. AdamW works on runs of a shard, wherever they lie in their matrices; Muon gathers
// each matrix on one rank, orthogonalises it there, and hands the pieces back (titan/parallel/whole_matrices.h).

#ifndef TITAN_OPTIM_OPTIMIZER_H_
#define TITAN_OPTIM_OPTIMIZER_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/optim/muon.h"
#include "titan/parallel/parameters.h"
#include "titan/parallel/whole_matrices.h"
#include "titan/plan/param_groups.h"

namespace titan::config {
class Optimizer;
}

namespace titan {

class Optimizer {
 public:
  struct Options {
    at::Device device = at::kCPU;              // of the communicators, and where Muon computes
    at::ScalarType matrix_dtype = at::kFloat;  // of what Muon gathers and orthogonalises; torch.optim.Muon's is bf16
  };

  // Averages start at zero. `parameters` and `groups` must outlive the result. InvalidArgument from ResolveParamGroups.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(const config::Optimizer& config, const ModelSpec& spec,
                                                           const Parameters& parameters, const ParallelGroups& groups,
                                                           const Options& options);

  // One step with the parameters' gradients, each multiplied by `gradient_scale` first, and every group's learning rate
  // by `lr_factor`.
  void Update(double lr_factor, double gradient_scale);

  // Updates done so far; the bias corrections of AdamW depend on it. Restored with the averages from a checkpoint.
  int64_t num_updates() const { return num_updates_; }
  void set_num_updates(int64_t num_updates) { num_updates_ = num_updates; }

  // The averages by the prefix of their names, like Parameters::masters(): "optimizer.exp_avg.",
  // "optimizer.exp_avg_sq.", and where a parameter has Muon "optimizer.momentum.". Not every parameter has each of
  // them: see HasState.
  std::vector<std::pair<std::string, const std::vector<at::Tensor>*>> StateUnits() const;
  bool HasState(std::string_view prefix, const std::string& parameter) const;

 private:
  // Consecutive elements of a unit's shard that one group of AdamW has.
  struct Run {
    size_t unit = 0;
    int64_t begin = 0, end = 0;
  };

  Optimizer(const config::Optimizer& config, ParamGroups param_groups, const Parameters& parameters,
            const Options& options);

  void MakeRuns();
  void MakeState(bool in_bfloat16);
  void UpdateRuns(size_t group, double lr_factor, double gradient_scale);
  void UpdateMatrices(double lr_factor, double gradient_scale);

  const ParamGroups param_groups_;
  const Parameters& parameters_;
  const Options options_;
  const double momentum_;
  const bool nesterov_;
  const int64_t ns_steps_;
  const MuonLr muon_lr_;
  std::vector<std::vector<Run>> runs_;  // of each group
  std::vector<size_t> matrices_;        // pieces of parameters that Muon has
  std::unique_ptr<WholeMatrices> whole_matrices_;
  // Of each unit: averages of gradients, AdamW's and Muon's, of the whole shard; of their squares, NumSquares elements.
  std::vector<at::Tensor> averages_, squares_;
  int64_t num_updates_ = 0;
};

}  // namespace titan

#endif  // TITAN_OPTIM_OPTIMIZER_H_
