#include "titan/train/parameters.h"

#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/empty.h>

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

absl::Status CheckShape(const std::string& name, at::IntArrayRef expected, at::IntArrayRef actual) {
  if (expected == actual) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("parameter ", name, " has the shape (", absl::StrJoin(actual, ", "),
                                                 ") where the model wants (", absl::StrJoin(expected, ", "),
                                                 "); these weights belong to another model"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Parameters>> Parameters::Create(const ModelSpec& spec, const Options& options,
                                                               const InitialValue& initial_value) {
  auto parameters = std::unique_ptr<Parameters>(new Parameters);
  absl::flat_hash_map<std::string, size_t> index_of;
  for (const BlockSpec& block : spec.blocks) {
    std::vector<size_t>& indices = parameters->block_indices_.emplace_back();
    for (const ParameterSpec& parameter : block.parameters) {
      TITAN_ASSIGN_OR_RETURN(const at::Tensor value, initial_value(parameter));
      TITAN_RETURN_IF_ERROR(CheckShape(parameter.name, parameter.shape, value.sizes()));
      at::Tensor master = at::empty(parameter.shape, at::TensorOptions(options.device).dtype(options.dtype));
      master.copy_(value);
      index_of[parameter.name] = parameters->names_.size();
      indices.push_back(parameters->names_.size());
      parameters->names_.push_back(parameter.name);
      parameters->computed_.push_back(master.to(options.compute_dtype));  // the same tensor if nothing changes
      parameters->masters_.push_back(std::move(master));
    }
    for (const std::string& name : block.shared_parameters) {
      CHECK(index_of.contains(name)) << block.name << " shares " << name << ", which no earlier block owns";
      indices.push_back(index_of[name]);
    }
  }
  parameters->ClearGradients();
  return parameters;
}

void Parameters::ClearGradients() { gradients_.assign(masters_.size(), at::Tensor()); }

void Parameters::FinishUpdate() {
  if (masters_.empty() || computed_[0].is_same(masters_[0])) return;
  at::_foreach_copy_(computed_, masters_);
}

std::vector<at::Tensor> Parameters::Weights(size_t block) {
  std::vector<at::Tensor> weights;
  for (const size_t index : block_indices_[block]) weights.push_back(computed_[index]);
  return weights;
}

void Parameters::AddGradients(size_t block, std::vector<at::Tensor> gradients) {
  const std::vector<size_t>& indices = block_indices_[block];
  CHECK_EQ(gradients.size(), indices.size());
  for (size_t i = 0; i < indices.size(); ++i) {
    at::Tensor& sum = gradients_[indices[i]];
    if (sum.defined()) {
      sum.add_(gradients[i]);
    } else {
      sum =
          gradients[i].to(masters_[indices[i]].scalar_type()).contiguous();  // takes it over where both are so already
    }
    gradients[i].reset();
  }
}

}  // namespace titan
