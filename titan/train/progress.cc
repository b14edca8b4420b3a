#include "titan/train/progress.h"

#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/hf.h"
#include "titan/checkpoint/store.h"
#include "titan/config/diff.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"

namespace titan {
namespace {

using Json = nlohmann::json;

// Fields of the model in which a Hugging Face folder and the experiment differ, one per line; labels do not count.
std::string ModelDifferences(const config::Model& stored, const config::Model& wanted) {
  config::Experiment left, right;
  *left.mutable_model() = stored;
  *right.mutable_model() = wanted;
  left.mutable_model()->clear_flavor();
  right.mutable_model()->clear_flavor();
  std::string differences;
  for (const FieldDifference& field : Diff(left, right)) {
    absl::StrAppend(&differences, "\n  ", field.path, ": ", field.left, " there, ", field.right, " here");
  }
  return differences;
}

}  // namespace

absl::StatusOr<std::string> SaveProgress(const std::string& folder, const config::Experiment& experiment,
                                         const Trainer& trainer, const Loader& loader, int64_t tokens_seen) {
  const Json state = {{"data", Json::parse(loader.State())},
                      {"lr", trainer.lr()},
                      {"rng", {{"seed", experiment.debug().seed()}}},
                      {"step", trainer.step()},
                      {"tokens_seen", tokens_seen}};
  CheckpointContents contents;
  contents.step = trainer.step();
  contents.tensors = trainer.State();
  contents.state = state.dump();
  contents.experiment = CanonicalBytes(experiment);
  return SaveCheckpoint(folder, contents);
}

absl::StatusOr<int64_t> RestoreProgress(const std::string& checkpoint, Trainer& trainer, Loader& loader) {
  TITAN_ASSIGN_OR_RETURN(const Checkpoint stored, OpenCheckpoint(checkpoint));
  const Json state = Json::parse(stored.state(), nullptr, /*allow_exceptions=*/false);
  const bool complete = state.is_object() && state.count("data") == 1 && state.count("tokens_seen") == 1 &&
                        state["tokens_seen"].is_number_integer();
  if (!complete) {
    return absl::DataLossError(
        absl::StrCat(checkpoint, "/state.json lacks data or tokens_seen: it is not the state of a run"));
  }
  TITAN_RETURN_IF_ERROR(trainer.Restore(stored.step(), [&](const std::string& name) { return stored.Load(name); }));
  TITAN_RETURN_IF_ERROR(loader.Restore(state["data"].dump()));
  return state["tokens_seen"].get<int64_t>();
}

absl::StatusOr<Parameters::InitialValue> InitialValuesFrom(const std::string& path,
                                                           const config::Experiment& experiment) {
  if (std::filesystem::exists(path + "/config.json")) {
    TITAN_ASSIGN_OR_RETURN(HfCheckpoint opened, OpenHf(path));
    auto checkpoint = std::make_shared<const HfCheckpoint>(std::move(opened));
    if (const std::string differences = ModelDifferences(checkpoint->model(), experiment.model());
        !differences.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("checkpoint.initial_load_path: ", path,
                                                     " holds another model than the experiment's:", differences));
    }
    return [checkpoint](const ParameterSpec& parameter) { return checkpoint->Load(parameter.name, at::kFloat); };
  }
  TITAN_ASSIGN_OR_RETURN(Checkpoint opened, OpenCheckpoint(path));
  auto checkpoint = std::make_shared<const Checkpoint>(std::move(opened));
  return
      [checkpoint](const ParameterSpec& parameter) { return checkpoint->Load(absl::StrCat("model.", parameter.name)); };
}

}  // namespace titan
