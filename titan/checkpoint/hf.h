// Models as folders of the Hugging Face library: config.json beside model.safetensors, or beside shards with
// model.safetensors.index.json.
//
//   TITAN_ASSIGN_OR_RETURN(const HfCheckpoint checkpoint, OpenHf("/models/Llama-3.2-1B"));
//   TITAN_ASSIGN_OR_RETURN(at::Tensor wq, checkpoint.Load("layers.0.attention.wq.weight", at::kFloat));
//   TITAN_RETURN_IF_ERROR(WriteHf("/models/mine", checkpoint.model(), parameters, at::kBFloat16));

#ifndef TITAN_CHECKPOINT_HF_H_
#define TITAN_CHECKPOINT_HF_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/checkpoint/safetensors.h"
#include "titan/checkpoint/tensors.h"
#include "titan/plan/model_spec.h"

namespace titan {

// A folder that was found complete: every parameter of the model is there in its shape, and nothing else. The weights
// are mapped, and read when they are loaded.
class HfCheckpoint {
 public:
  // Complete, as the strict configuration reader would leave it.
  const config::Model& model() const { return *model_; }
  const ModelSpec& spec() const { return spec_; }

  // A parameter by its name in spec(), converted, in memory of its own, on the CPU. NotFound for another name.
  absl::StatusOr<at::Tensor> Load(const std::string& titan_name, at::ScalarType dtype) const;

  // The name in the files of a parameter of spec(); CHECKs that there is one.
  std::string HfName(const std::string& titan_name) const;

 private:
  friend absl::StatusOr<HfCheckpoint> OpenHf(const std::string& dir);

  struct Parameter {
    std::string hf_name;
    std::shared_ptr<const SafetensorsFile> file;
    const SafetensorsFile::Entry* entry;
  };

  std::shared_ptr<const config::Model> model_;
  ModelSpec spec_;
  std::map<std::string, Parameter> parameters_;  // by titan's name
};

// NotFound without config.json or weights; otherwise InvalidArgument / DataLoss with the folder and *all* that is
// missing, unexpected or of a wrong shape or dtype. A tied model may hold lm_head.weight if it equals the embedding.
absl::StatusOr<HfCheckpoint> OpenHf(const std::string& dir);

// The name of a parameter in Hugging Face's files.
absl::StatusOr<std::string> HfName(const config::Model& model, const std::string& titan_name);

struct HfWriteOptions {
  // Files larger than this are split (the library's own limit).
  int64_t max_shard_bytes = 5'000'000'000;
  // Written to config.json for users of the model; 0: 2048, or what RoPE scaling reaches.
  int64_t max_position_embeddings = 0;
};

// Writes a folder that the Hugging Face library loads. `parameters`: all of the model's, by titan's names, on any
// device; `dtype` is kFloat, kBFloat16 or kHalf. `dir` must not exist, or be empty; it appears complete or not at all.
absl::Status WriteHf(const std::string& dir, const config::Model& model, const NamedTensors& parameters,
                     at::ScalarType dtype, const HfWriteOptions& options = {});

// The same of a model that need not fit into memory: asks for one parameter after the other, each in its shape.
using LoadParameter = std::function<absl::StatusOr<at::Tensor>(const ParameterSpec& parameter)>;
absl::Status WriteHf(const std::string& dir, const config::Model& model, const LoadParameter& load,
                     at::ScalarType dtype, const HfWriteOptions& options = {});

// Whether WriteHf knows the model; otherwise the reason.
absl::Status CheckHfExport(const config::Model& model);

// The other way for tensors that come in another file: the model's parameters by titan's names, in the order of its
// specification. InvalidArgument with `source` and *all* that is missing, unexpected or of a wrong shape or dtype. A
// tied model may hold lm_head.weight if it equals the embedding.
absl::StatusOr<NamedTensors> FromHfNames(const config::Model& model, const NamedTensors& tensors,
                                         const std::string& source);

// What the library's own model has in its state dict: all parameters under its names, and of a tied model
// lm_head.weight too, the embedding's tensor a second time. `parameters` as for WriteHf; errors begin with `target`.
absl::StatusOr<NamedTensors> ToHfNames(const config::Model& model, const NamedTensors& parameters,
                                       const std::string& target);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_HF_H_
