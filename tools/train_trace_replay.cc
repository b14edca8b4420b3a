#include "tools/train_trace_replay.h"

#include <ATen/ops/empty.h>

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/hf.h"
#include "titan/config/experiment.pb.h"
#include "titan/train/trainer.h"

namespace titan {
namespace {

using Json = nlohmann::json;

absl::StatusOr<Json> ReadSettings(const std::string& trace) {
  const std::string path = trace + "/trace.json";
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.count("settings") == 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a JSON object with settings"));
  }
  const Json& settings = json["settings"];
  for (const char* key : {"S", "steps", "global_batch", "accum", "lr", "betas", "eps", "weight_decay", "max_norm",
                          "warmup", "decay_ratio", "decay_type", "min_lr_factor"}) {
    if (settings.count(key) == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": settings lack ", key));
  }
  return settings;
}

absl::StatusOr<config::LrScheduler::DecayType> DecayTypeOf(const std::string& name) {
  if (name == "linear") return config::LrScheduler::DECAY_TYPE_LINEAR;
  if (name == "sqrt") return config::LrScheduler::DECAY_TYPE_SQRT;
  if (name == "cosine") return config::LrScheduler::DECAY_TYPE_COSINE;
  return absl::InvalidArgumentError(absl::StrCat("decay_type ", name, ": use linear, sqrt or cosine"));
}

// The experiment that the settings describe.
absl::StatusOr<config::Experiment> ExperimentOf(const Json& settings, const config::Model& model) {
  config::Experiment experiment;
  *experiment.mutable_model() = model;
  config::Training& training = *experiment.mutable_training();
  training.set_seq_len(settings["S"]);
  training.set_steps(settings["steps"]);
  training.set_global_batch_size(settings["global_batch"]);
  training.set_local_batch_size(training.global_batch_size() / settings["accum"].get<int64_t>());
  training.set_max_norm(settings["max_norm"]);
  training.set_mixed_precision_param(config::Training::DTYPE_FLOAT32);
  config::Optimizer& optimizer = *experiment.mutable_optimizer();
  optimizer.set_lr(settings["lr"]);
  optimizer.set_beta1(settings["betas"][0]);
  optimizer.set_beta2(settings["betas"][1]);
  optimizer.set_eps(settings["eps"]);
  optimizer.set_weight_decay(settings["weight_decay"]);
  config::LrScheduler& scheduler = *experiment.mutable_lr_scheduler();
  scheduler.set_warmup_steps(settings["warmup"]);
  if (!settings["decay_ratio"].is_null()) scheduler.set_decay_ratio(settings["decay_ratio"]);
  TITAN_ASSIGN_OR_RETURN(const auto decay_type, DecayTypeOf(settings["decay_type"]));
  scheduler.set_decay_type(decay_type);
  scheduler.set_min_lr_factor(settings["min_lr_factor"]);
  experiment.mutable_determinism()->set_mode(config::Determinism::MODE_BITWISE);
  return experiment;
}

std::vector<int64_t> ValuesOf(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  const int64_t* data = dense.const_data_ptr<int64_t>();
  return {data, data + dense.numel()};
}

// tokens (rows, S+1), labels (rows, S) of one step.
Batch MakeBatch(const at::Tensor& tokens, const at::Tensor& labels) {
  Batch batch;
  batch.rows = labels.size(0);
  batch.seq_len = labels.size(1);
  batch.tokens = ValuesOf(tokens.narrow(1, 0, batch.seq_len));
  batch.labels = ValuesOf(labels);
  for (int64_t i = 0; i < batch.rows * batch.seq_len; ++i) batch.positions.push_back(i % batch.seq_len);
  for (const int64_t label : batch.labels) batch.valid_tokens += label != -100;
  return batch;
}

at::Tensor VectorOf(const std::vector<double>& values) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kDouble);
  std::memcpy(tensor.mutable_data_ptr<double>(), values.data(), values.size() * sizeof(double));
  return tensor;
}

absl::Status CheckBatches(const NamedTensors& batches, const Json& settings, const std::string& path) {
  const at::Tensor* tokens = FindTensor(batches, "tokens");
  const at::Tensor* labels = FindTensor(batches, "labels");
  const int64_t steps = settings["steps"], rows = settings["global_batch"], length = settings["S"];
  const bool good = tokens != nullptr && labels != nullptr && tokens->scalar_type() == at::kLong &&
                    labels->scalar_type() == at::kLong &&
                    tokens->sizes() == at::IntArrayRef({steps, rows, length + 1}) &&
                    labels->sizes() == at::IntArrayRef({steps, rows, length});
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": wants int64 tokens (", steps, ", ", rows, ", ", length + 1,
                                                 ") and labels (", steps, ", ", rows, ", ", length,
                                                 "), by the settings in trace.json"));
}

}  // namespace

absl::StatusOr<NamedTensors> ReplayTrace(const std::string& hf_dir, const std::string& trace,
                                         const ReplayOptions& options) {
  TITAN_ASSIGN_OR_RETURN(const HfCheckpoint weights, OpenHf(hf_dir));
  TITAN_ASSIGN_OR_RETURN(const Json settings, ReadSettings(trace));
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment, ExperimentOf(settings, weights.model()));
  TITAN_ASSIGN_OR_RETURN(const NamedTensors batches, ReadTensors(trace + "/batches.safetensors"));
  TITAN_RETURN_IF_ERROR(CheckBatches(batches, settings, trace + "/batches.safetensors"));
  TITAN_ASSIGN_OR_RETURN(
      const std::unique_ptr<Trainer> trainer,
      Trainer::Create(experiment, {.fp64 = options.fp64, .initial_value = [&weights](const ParameterSpec& parameter) {
                                     return weights.Load(parameter.name, at::kDouble);
                                   }}));

  std::vector<double> loss, grad_norm, lr;
  for (int64_t step = 0; step < experiment.training().steps(); ++step) {
    const Batch batch = MakeBatch((*FindTensor(batches, "tokens"))[step], (*FindTensor(batches, "labels"))[step]);
    TITAN_ASSIGN_OR_RETURN(const StepResult result, trainer->Step(batch));
    loss.push_back(result.loss);
    grad_norm.push_back(result.grad_norm);
    lr.push_back(result.lr);
  }
  NamedTensors out = {{"loss", VectorOf(loss)}, {"grad_norm", VectorOf(grad_norm)}, {"lr", VectorOf(lr)}};
  for (const auto& [name, tensor] : trainer->State()) {
    std::string_view rest = name;
    if (absl::ConsumePrefix(&rest, "model.")) {
      out.emplace_back(absl::StrCat("param.", weights.HfName(std::string(rest))), tensor);
    } else if (options.states && absl::ConsumePrefix(&rest, "optimizer.")) {
      const size_t dot = rest.find('.');
      out.emplace_back(absl::StrCat(rest.substr(0, dot + 1), weights.HfName(std::string(rest.substr(dot + 1)))),
                       tensor);
    }
  }
  return out;
}

}  // namespace titan
