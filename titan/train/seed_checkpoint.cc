#include "titan/train/seed_checkpoint.h"

#include <iostream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/quantities.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/save.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/model/init.h"
#include "titan/plan/model_spec.h"
#include "titan/train/progress.h"
#include "titan/train/run_directory.h"
#include "titan/train/run_inputs.h"
#include "titan/train/torch_errors.h"

namespace titan {
namespace {

absl::StatusOr<CheckpointContents> SeedContents(const config::Experiment& experiment, const ModelSpec& spec) {
  const uint64_t seed = experiment.debug().seed();
  Parameters::InitialValue value = [seed](const ParameterSpec& parameter) -> absl::StatusOr<at::Tensor> {
    return InitialValue(parameter, seed);
  };
  if (const std::string& path = experiment.checkpoint().initial_load_path(); !path.empty()) {
    TITAN_ASSIGN_OR_RETURN(value, InitialValuesFrom(path, experiment));
  }
  CheckpointContents contents;
  for (const BlockSpec& block : spec.blocks) {
    for (const ParameterSpec& parameter : block.parameters) {
      TITAN_ASSIGN_OR_RETURN(at::Tensor tensor, value(parameter));
      contents.tensors.emplace_back(absl::StrCat("model.", parameter.name), std::move(tensor));
    }
  }
  contents.state = nlohmann::json({{"rng", {{"seed", seed}}}, {"step", 0}, {"tokens_seen", 0}}).dump();
  contents.experiment = CanonicalBytes(experiment);
  return contents;
}

}  // namespace

absl::Status CreateSeedCheckpoint(const TrainerFlags& flags, const config::Experiment& experiment) {
  if (flags.identity.world_size > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("checkpoint.create_seed_checkpoint takes one process, but ", flags.identity.world_size,
                     " were started; start it with bazel run, or the bundle's run, without --rendezvous"));
  }
  TITAN_ASSIGN_OR_RETURN(const std::string name, ReadBundleName(flags.bundle));
  const std::string out = flags.out.empty() ? DefaultOutDirectory(name) : flags.out;
  const std::string folder = out + "/" + experiment.checkpoint().folder();
  if (HoldsARun(out, folder)) {
    return absl::InvalidArgumentError(
        absl::StrCat(out, " already holds a run, and a seed checkpoint is the first of its run; choose another --out"));
  }
  TITAN_ASSIGN_OR_RETURN(const ModelSpec spec, BuildModelSpec(experiment.model()));
  const std::string what = absl::StrCat(name, ", ", FormatCount(spec.num_parameters()), " parameters");
  if (flags.dry_run) {
    std::cout << "would write the seed checkpoint " << folder << "/step-0 (" << what << ")" << std::endl;
    return absl::OkStatus();
  }
  TITAN_RETURN_IF_ERROR(MakeDirectories(folder));
  return CatchTorchErrors("the seed checkpoint", [&]() -> absl::Status {
    TITAN_ASSIGN_OR_RETURN(const CheckpointContents contents, SeedContents(experiment, spec));
    TITAN_ASSIGN_OR_RETURN(const std::string path, SaveCheckpoint(folder, contents));
    std::cout << "seed checkpoint " << path << " (" << what
              << ")\nA run begins from it with --set checkpoint.enable=true, and the same --out or --set "
                 "checkpoint.initial_load_path="
              << path << std::endl;
    return absl::OkStatus();
  });
}

}  // namespace titan
