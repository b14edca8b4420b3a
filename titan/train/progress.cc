#include "titan/train/progress.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
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

// A line for each field in which they differ.
std::string Differences(const config::Experiment& stored, const config::Experiment& wanted) {
  std::string differences;
  for (const FieldDifference& field : Diff(stored, wanted)) {
    absl::StrAppend(&differences, "\n  ", field.path, ": ", field.left, " there, ", field.right, " here");
  }
  return differences;
}

// Fields of the model in which a Hugging Face folder and the experiment differ; labels do not count.
std::string ModelDifferences(const config::Model& stored, const config::Model& wanted) {
  config::Experiment left, right;
  *left.mutable_model() = stored;
  *right.mutable_model() = wanted;
  left.mutable_model()->clear_flavor();
  right.mutable_model()->clear_flavor();
  return Differences(left, right);
}

// The steps at `key`; 0 in checkpoints of versions that did not have it.
int64_t StepsIn(const Json& state, const char* key) {
  const Json value = state.value(key, Json(0));
  return value.is_number_integer() ? value.get<int64_t>() : 0;
}

// The string at `key`, if there is one.
std::string TextIn(const Json& object, const char* key) {
  if (!object.is_object() || object.count(key) == 0 || !object[key].is_string()) return "";
  return object[key].get<std::string>();
}

}  // namespace

std::string ProgressState(const config::Experiment& experiment, const RunIdentity& run, const Trainer& trainer,
                          const Loader& loader, int64_t tokens_seen, bool model_only) {
  const Json state = {{"bundle", run.bundle},
                      {"data", Json::parse(loader.State())},
                      {"lr", trainer.lr()},
                      {"model_only", model_only},
                      {"optimizer_start", trainer.optimizer_start()},
                      {"rng", {{"seed", experiment.debug().seed()}}},
                      {"run_id", run.run_id},
                      {"schedule_start", trainer.schedule_start()},
                      {"step", trainer.step()},
                      {"tokens_seen", tokens_seen}};
  return state.dump();
}

absl::StatusOr<RestoredProgress> RestoreProgress(const std::string& checkpoint, const config::Experiment& experiment,
                                                 const std::string& run_id, Trainer& trainer, Loader& loader) {
  TITAN_ASSIGN_OR_RETURN(const Checkpoint stored, OpenCheckpoint(checkpoint));
  const Json state = Json::parse(stored.state(), nullptr, /*allow_exceptions=*/false);
  const bool complete = state.is_object() && state.count("data") == 1 && state.count("tokens_seen") == 1 &&
                        state["tokens_seen"].is_number_integer();
  if (!complete) {
    return absl::DataLossError(
        absl::StrCat(checkpoint, "/state.json lacks data or tokens_seen: it is not the state of a run"));
  }
  RestoredProgress restored{.tokens_seen = state["tokens_seen"].get<int64_t>(),
                            .model_only = state.value("model_only", Json()) == Json(true),
                            .run_id = TextIn(state, "run_id"),
                            .experiment = stored.experiment(),
                            .left_out = {}};
  if (restored.run_id != run_id) {
    const auto& excluded = experiment.checkpoint().exclude_from_loading();
    restored.left_out.assign(excluded.begin(), excluded.end());
  }
  const auto is_left_out = [&](std::string_view what) {
    return std::find(restored.left_out.begin(), restored.left_out.end(), what) != restored.left_out.end();
  };
  const bool model_alone = restored.model_only || is_left_out("optimizer");
  if (model_alone && !is_left_out("optimizer") && stored.step() < experiment.training().steps()) {
    return absl::InvalidArgumentError(absl::StrCat(
        checkpoint,
        " holds the model alone (checkpoint.last_save_model_only), so that no further steps can be trained from it. "
        "Continue from an earlier step with --set checkpoint.load_step=N, or begin a new run with "
        "checkpoint.initial_load_path"));
  }
  TITAN_RETURN_IF_ERROR(
      trainer.Restore(stored.step(), [&](const Trainer::StatePiece& piece, const at::Tensor& out) -> absl::Status {
        if (model_alone && !absl::StartsWith(piece.name, "model.")) {
          out.zero_();
          return absl::OkStatus();
        }
        return stored.Read(piece.name, piece.shape, piece.boxes, out);
      }));
  trainer.SetStarts(is_left_out("lr_scheduler") ? stored.step() : StepsIn(state, "schedule_start"),
                    is_left_out("optimizer") ? stored.step() : StepsIn(state, "optimizer_start"));
  if (!is_left_out("dataloader")) TITAN_RETURN_IF_ERROR(loader.Restore(state["data"].dump()));
  return restored;
}

absl::Status CheckSameRun(const std::string& checkpoint, const config::Experiment& experiment, const RunIdentity& run) {
  TITAN_ASSIGN_OR_RETURN(const Checkpoint stored, OpenCheckpoint(checkpoint));
  const Json state = Json::parse(stored.state(), nullptr, /*allow_exceptions=*/false);
  const std::string run_id = TextIn(state, "run_id"), bundle = TextIn(state, "bundle");
  std::string differences;
  config::Experiment earlier;
  if (earlier.ParseFromString(stored.experiment())) differences = Differences(earlier, experiment);
  if (!bundle.empty() && bundle != run.bundle) {
    absl::StrAppend(&differences, "\n  the bundle (program, data, configuration): ", bundle, " there, ", run.bundle,
                    " here");
  }
  if (differences.empty() && (run_id.empty() || run_id == run.run_id)) return absl::OkStatus();
  if (differences.empty()) differences = "\n  the overrides, or the schedule in a file";
  return absl::InvalidArgumentError(
      absl::StrCat(checkpoint, " was saved by another run",
                   run_id.empty() ? "" : absl::StrCat(" (run id ", run_id, ", this is ", run.run_id, ")"),
                   ", which differs in:", differences,
                   "\nTo continue it with these changes, add --allow_digest_change; to begin anew, choose another "
                   "--out"));
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
