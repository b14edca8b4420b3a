#include "titan/checkpoint/export.h"

#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/torch_file.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr char kModelPrefix[] = "model.";

absl::StatusOr<config::Experiment> ExperimentOf(const Checkpoint& checkpoint) {
  config::Experiment experiment;
  if (!experiment.ParseFromString(checkpoint.experiment()) || !experiment.has_model()) {
    return absl::InvalidArgumentError(absl::StrCat("the checkpoint of step ", checkpoint.step(),
                                                   " has no Experiment in experiment.binpb; the model's shape is not "
                                                   "known"));
  }
  return experiment;
}

// What is not exported is not lost in silence.
absl::Status CheckNothingElse(const Checkpoint& checkpoint, const config::Model& model) {
  TITAN_ASSIGN_OR_RETURN(const ModelSpec spec, BuildModelSpec(model));
  std::set<std::string> known;
  for (const BlockSpec& block : spec.blocks) {
    for (const ParameterSpec& parameter : block.parameters) known.insert(kModelPrefix + parameter.name);
  }
  for (const auto& [name, unused] : checkpoint.index().tensors) {
    if (absl::StartsWith(name, kModelPrefix) && known.count(name) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": unexpected, the experiment's model has no such parameter"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ExportHf(const Checkpoint& checkpoint, const std::string& dir, at::ScalarType dtype,
                      HfWriteOptions options) {
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ExperimentOf(checkpoint));
  TITAN_RETURN_IF_ERROR(CheckNothingElse(checkpoint, experiment.model()));
  options.max_position_embeddings = experiment.training().seq_len();
  const auto load = [&](const ParameterSpec& parameter) -> absl::StatusOr<at::Tensor> {
    TITAN_ASSIGN_OR_RETURN(at::Tensor tensor, checkpoint.Load(kModelPrefix + parameter.name));
    if (tensor.sizes().vec() == parameter.shape) return tensor;
    return absl::InvalidArgumentError(absl::StrCat(parameter.name, ": another shape than the experiment's model has"));
  };
  return WriteHf(dir, experiment.model(), load, dtype, options);
}

absl::Status ExportTorchFile(const Checkpoint& checkpoint, const std::string& path, at::ScalarType dtype) {
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ExperimentOf(checkpoint));
  NamedTensors parameters;
  for (const auto& [name, unused] : checkpoint.index().tensors) {
    if (!absl::StartsWith(name, kModelPrefix)) continue;
    TITAN_ASSIGN_OR_RETURN(at::Tensor tensor, checkpoint.Load(name));
    parameters.emplace_back(name.substr(sizeof(kModelPrefix) - 1), std::move(tensor));
  }
  TITAN_ASSIGN_OR_RETURN(const NamedTensors tensors, ToHfNames(experiment.model(), parameters, path));
  const std::string temporary = path + ".tmp";
  absl::Status status = WriteTorchFile(temporary, tensors, dtype);
  std::error_code error;
  if (status.ok()) {
    std::filesystem::rename(temporary, path, error);
    if (error) status = SystemError(error.value(), "cannot create", path);
  }
  if (!status.ok()) std::filesystem::remove(temporary, error);
  return status;
}

}  // namespace titan
