#include "titan/checkpoint/hf.h"

#include <ATen/ops/equal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/base/with_context.h"
#include "titan/checkpoint/hf_config.h"
#include "titan/checkpoint/hf_names.h"
#include "titan/checkpoint/json.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr char kConfigFile[] = "config.json";
constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
// The parameter that a tied model does not have, and the one that takes its place.
constexpr char kOutput[] = "output.weight";
constexpr char kEmbedding[] = "tok_embeddings.weight";

std::string ShapeText(absl::Span<const int64_t> shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

absl::Status AllProblems(const std::string& dir, const std::vector<std::string>& problems) {
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(dir, ": not a complete model\n  ", absl::StrJoin(problems, "\n  ")));
}

struct FoundTensor {
  std::shared_ptr<const SafetensorsFile> file;
  const SafetensorsFile::Entry* entry;
};
using FoundTensors = std::map<std::string, FoundTensor>;  // by the name in the files

absl::Status AddFile(const std::string& path, FoundTensors& found) {
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const SafetensorsFile> file, SafetensorsFile::Open(path));
  for (const SafetensorsFile::Entry& entry : file->entries()) {
    const auto [at, is_new] = found.emplace(entry.name, FoundTensor{file, &entry});
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor \"", entry.name, "\" is also in ", at->second.file->path()));
    }
  }
  return absl::OkStatus();
}

// Tensor name -> file name.
absl::StatusOr<std::map<std::string, std::string>> ReadWeightMap(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const absl::StatusOr<nlohmann::json> json = ParseJsonObject(text);
  if (!json.ok()) return WithContext(path, json.status());
  const auto weight_map = json->find("weight_map");
  if (weight_map == json->end() || !weight_map->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": \"weight_map\" is missing or not an object"));
  }
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : weight_map->items()) {
    // A name and not a path: an index must not lead out of its folder.
    if (!file.is_string() || file.get<std::string>().empty() ||
        file.get<std::string>().find('/') != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": \"", name, "\": ", file.dump(), " is not a file name"));
    }
    files[name] = file.get<std::string>();
  }
  return files;
}

// All tensors of the folder. Like the library, one file is preferred to an index.
absl::StatusOr<FoundTensors> FindTensors(const std::string& dir) {
  FoundTensors found;
  if (std::filesystem::exists(dir + "/" + kSingleFile)) {
    TITAN_RETURN_IF_ERROR(AddFile(dir + "/" + kSingleFile, found));
    return found;
  }
  const std::string index = dir + "/" + kIndexFile;
  if (!std::filesystem::exists(index)) {
    return absl::NotFoundError(absl::StrCat(dir, ": neither ", kSingleFile, " nor ", kIndexFile,
                                            "; weights in other formats must be saved as safetensors first"));
  }
  using WeightMap = std::map<std::string, std::string>;
  TITAN_ASSIGN_OR_RETURN(const WeightMap weight_map, ReadWeightMap(index));
  std::set<std::string> files;
  for (const auto& [name, file] : weight_map) files.insert(file);
  for (const std::string& file : files) TITAN_RETURN_IF_ERROR(AddFile(absl::StrCat(dir, "/", file), found));

  std::vector<std::string> problems;
  for (const auto& [name, file] : weight_map) {
    const auto at = found.find(name);
    if (at == found.end() || at->second.file->path() != absl::StrCat(dir, "/", file)) {
      problems.push_back(absl::StrCat(name, ": not in ", file, ", where ", kIndexFile, " says it is"));
    }
  }
  for (const auto& [name, tensor] : found) {
    if (weight_map.count(name) == 0) problems.push_back(absl::StrCat(name, ": in a file, but not in ", kIndexFile));
  }
  TITAN_RETURN_IF_ERROR(AllProblems(dir, problems));
  return found;
}

bool IsWeightDtype(StoredDtype dtype) {
  return dtype == StoredDtype::kF32 || dtype == StoredDtype::kBF16 || dtype == StoredDtype::kF16 ||
         dtype == StoredDtype::kF64;
}

std::vector<const ParameterSpec*> ParametersOf(const ModelSpec& spec) {
  std::vector<const ParameterSpec*> parameters;
  for (const BlockSpec& block : spec.blocks) {
    for (const ParameterSpec& parameter : block.parameters) parameters.push_back(&parameter);
  }
  return parameters;
}

// Why `tensor` cannot be `parameter`; empty if it can.
std::string Mismatch(const SafetensorsFile::Entry& tensor, const ParameterSpec& parameter) {
  if (tensor.shape != parameter.shape) {
    return absl::StrCat(tensor.name, ": shape ", ShapeText(tensor.shape), ", but config.json makes it ",
                        ShapeText(parameter.shape));
  }
  if (!IsWeightDtype(tensor.dtype)) {
    return absl::StrCat(tensor.name, ": dtype ", NameOf(tensor.dtype), "; weights are F32, BF16, F16 or F64");
  }
  return "";
}

bool SameTensor(const SafetensorsFile::Entry& a, const SafetensorsFile::Entry& b) {
  return a.dtype == b.dtype && a.shape == b.shape && a.data.size() == b.data.size() &&
         (a.data.empty() || std::memcmp(a.data.data(), b.data.data(), a.data.size()) == 0);
}

// What is in the files beyond the model's parameters; `found` has lost those.
void CheckUnexpected(const FoundTensors& found, const HfNames& names, const SafetensorsFile::Entry* tied_embedding,
                     std::vector<std::string>& problems) {
  for (const auto& [name, tensor] : found) {
    if (names.IsIgnored(name)) continue;
    if (tied_embedding != nullptr && names.ToTitan(name) == kOutput) {
      if (SameTensor(*tensor.entry, *tied_embedding)) continue;
      problems.push_back(absl::StrCat(name, ": config.json ties it to ", tied_embedding->name, ", but they differ"));
      continue;
    }
    problems.push_back(absl::StrCat(name, ": unexpected, the model of config.json has no such parameter"));
  }
}

// `parameters` in the order of the specification, or all that is wrong with them.
absl::StatusOr<NamedTensors> InOrder(const ModelSpec& spec, const NamedTensors& parameters, const std::string& dir) {
  std::map<std::string, at::Tensor> given;
  std::vector<std::string> problems;
  for (const auto& [name, tensor] : parameters) {
    if (!given.emplace(name, tensor).second) problems.push_back(absl::StrCat(name, ": given twice"));
  }
  NamedTensors ordered;
  for (const ParameterSpec* parameter : ParametersOf(spec)) {
    const auto node = given.extract(parameter->name);
    if (node.empty()) {
      problems.push_back(absl::StrCat(parameter->name, ": missing"));
    } else if (node.mapped().sizes().vec() != parameter->shape) {
      problems.push_back(absl::StrCat(parameter->name, ": shape ", ShapeText(node.mapped().sizes().vec()),
                                      " instead of ", ShapeText(parameter->shape)));
    } else {
      ordered.emplace_back(parameter->name, node.mapped());
    }
  }
  for (const auto& [name, tensor] : given) problems.push_back(absl::StrCat(name, ": unexpected"));
  TITAN_RETURN_IF_ERROR(AllProblems(dir, problems));
  return ordered;
}

// What is to be written, under its name in the files.
struct OutTensor {
  std::string name;
  const ParameterSpec* parameter;
};
using OutTensors = std::vector<OutTensor>;

// Cuts at parameter boundaries so that no file exceeds the limit, unless one parameter does.
std::vector<OutTensors> SplitIntoShards(const OutTensors& tensors, int64_t element_bytes, int64_t max_bytes) {
  std::vector<OutTensors> shards(1);
  int64_t bytes = 0;
  for (const OutTensor& tensor : tensors) {
    const int64_t more = tensor.parameter->num_elements() * element_bytes;
    if (!shards.back().empty() && bytes + more > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += more;
    shards.back().push_back(tensor);
  }
  return shards;
}

// Converts one tensor at a time, since a model may not fit into host memory twice.
absl::Status WriteShard(const std::string& path, const OutTensors& tensors, const LoadParameter& load,
                        at::ScalarType dtype) {
  TITAN_ASSIGN_OR_RETURN(const StoredDtype stored, StoredDtypeOf(dtype));
  std::vector<TensorHeader> headers;
  for (const OutTensor& tensor : tensors) headers.push_back({tensor.name, stored, tensor.parameter->shape});
  // The library refuses files that do not say which framework wrote them.
  TITAN_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, headers, {{"format", "pt"}}));
  for (const OutTensor& tensor : tensors) {
    TITAN_ASSIGN_OR_RETURN(const at::Tensor value, load(*tensor.parameter));
    TITAN_RETURN_IF_ERROR(writer.Append(BytesOf(value.to(dtype).cpu().contiguous())));
  }
  return writer.Close();
}

absl::Status WriteWeights(const std::string& dir, const OutTensors& tensors, const LoadParameter& load,
                          at::ScalarType dtype, int64_t max_shard_bytes) {
  const int64_t element_bytes = static_cast<int64_t>(c10::elementSize(dtype));
  const std::vector<OutTensors> shards = SplitIntoShards(tensors, element_bytes, max_shard_bytes);
  if (shards.size() == 1) return WriteShard(dir + "/" + kSingleFile, shards[0], load, dtype);
  nlohmann::json weight_map = nlohmann::json::object();
  int64_t total_bytes = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
    TITAN_RETURN_IF_ERROR(WriteShard(dir + "/" + file, shards[i], load, dtype));
    for (const OutTensor& tensor : shards[i]) {
      weight_map[tensor.name] = file;
      total_bytes += tensor.parameter->num_elements() * element_bytes;
    }
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}};
  return WriteFileAtomically(dir + "/" + kIndexFile, index.dump(2) + "\n");
}

absl::StatusOr<std::string> DtypeName(at::ScalarType dtype) {
  if (dtype == at::kFloat) return "float32";
  if (dtype == at::kBFloat16) return "bfloat16";
  if (dtype == at::kHalf) return "float16";
  return absl::InvalidArgumentError(absl::StrCat("weights are not exported as ", c10::toString(dtype)));
}

int64_t MaxPositions(const config::Model& model, const HfWriteOptions& options) {
  if (options.max_position_embeddings > 0) return options.max_position_embeddings;
  if (model.rope().scaling_type() == config::Rope::SCALING_TYPE_NONE) return 2048;
  return static_cast<int64_t>(model.rope().scaling_factor() * static_cast<double>(model.rope().original_max_seq_len()));
}

}  // namespace

absl::StatusOr<HfCheckpoint> OpenHf(const std::string& dir) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(absl::StrCat(dir, "/", kConfigFile)));
  absl::StatusOr<config::Model> model = ModelFromHfConfig(text);
  if (!model.ok()) return WithContext(absl::StrCat(dir, "/", kConfigFile), model.status());
  TITAN_ASSIGN_OR_RETURN(const HfNames names, HfNames::Of(*model));
  HfCheckpoint checkpoint;
  TITAN_ASSIGN_OR_RETURN(checkpoint.spec_, BuildModelSpec(*model));
  TITAN_ASSIGN_OR_RETURN(FoundTensors found, FindTensors(dir));

  std::vector<std::string> problems;
  const SafetensorsFile::Entry* tied_embedding = nullptr;
  for (const ParameterSpec* parameter : ParametersOf(checkpoint.spec_)) {
    const std::optional<std::string> hf_name = names.ToHf(parameter->name);
    CHECK(hf_name.has_value()) << "no Hugging Face name for " << parameter->name;
    const auto node = found.extract(*hf_name);
    if (node.empty()) {
      problems.push_back(absl::StrCat(*hf_name, ": missing, ", ShapeText(parameter->shape)));
      continue;
    }
    const FoundTensor& tensor = node.mapped();
    if (const std::string mismatch = Mismatch(*tensor.entry, *parameter); !mismatch.empty()) {
      problems.push_back(mismatch);
    }
    if (model->enable_weight_tying() && parameter->name == kEmbedding) tied_embedding = tensor.entry;
    checkpoint.parameters_[parameter->name] = {*hf_name, tensor.file, tensor.entry};
  }
  CheckUnexpected(found, names, tied_embedding, problems);
  TITAN_RETURN_IF_ERROR(AllProblems(dir, problems));
  checkpoint.model_ = std::make_shared<const config::Model>(*std::move(model));
  return checkpoint;
}

absl::StatusOr<at::Tensor> HfCheckpoint::Load(const std::string& titan_name, at::ScalarType dtype) const {
  const auto parameter = parameters_.find(titan_name);
  if (parameter == parameters_.end()) {
    return absl::NotFoundError(absl::StrCat("the model has no parameter \"", titan_name, "\""));
  }
  const at::Tensor view = ViewOf(parameter->second.file, *parameter->second.entry);
  return view.to(dtype, /*non_blocking=*/false, /*copy=*/true);
}

std::string HfCheckpoint::HfName(const std::string& titan_name) const {
  const auto parameter = parameters_.find(titan_name);
  CHECK(parameter != parameters_.end()) << "the model has no parameter " << titan_name;
  return parameter->second.hf_name;
}

absl::StatusOr<std::string> HfName(const config::Model& model, const std::string& titan_name) {
  TITAN_ASSIGN_OR_RETURN(const HfNames names, HfNames::Of(model));
  if (std::optional<std::string> name = names.ToHf(titan_name)) return *std::move(name);
  return absl::NotFoundError(absl::StrCat("no Hugging Face name for \"", titan_name, "\""));
}

absl::StatusOr<NamedTensors> FromHfNames(const config::Model& model, const NamedTensors& tensors,
                                         const std::string& source) {
  TITAN_ASSIGN_OR_RETURN(const HfNames names, HfNames::Of(model));
  TITAN_ASSIGN_OR_RETURN(const ModelSpec spec, BuildModelSpec(model));
  NamedTensors parameters;
  const at::Tensor *embedding = nullptr, *tied_output = nullptr;
  std::vector<std::string> problems;
  for (const auto& [name, tensor] : tensors) {
    if (names.IsIgnored(name)) continue;
    const std::optional<std::string> titan_name = names.ToTitan(name);
    if (titan_name == kEmbedding) embedding = &tensor;
    if (!at::isFloatingType(tensor.scalar_type())) {
      problems.push_back(absl::StrCat(name, ": dtype ", c10::toString(tensor.scalar_type()), "; weights are floats"));
    } else if (model.enable_weight_tying() && titan_name == kOutput) {
      tied_output = &tensor;
    } else {
      parameters.emplace_back(titan_name.value_or(name), tensor);
    }
  }
  if (tied_output != nullptr && (embedding == nullptr || !at::equal(*tied_output, *embedding))) {
    problems.push_back(absl::StrCat(kOutput, ": the model ties it to ", kEmbedding, ", but they differ"));
  }
  TITAN_RETURN_IF_ERROR(AllProblems(source, problems));
  return InOrder(spec, parameters, source);
}

absl::StatusOr<NamedTensors> ToHfNames(const config::Model& model, const NamedTensors& parameters,
                                       const std::string& target) {
  TITAN_ASSIGN_OR_RETURN(const HfNames names, HfNames::Of(model));
  TITAN_ASSIGN_OR_RETURN(const ModelSpec spec, BuildModelSpec(model));
  TITAN_ASSIGN_OR_RETURN(NamedTensors tensors, InOrder(spec, parameters, target));
  if (model.enable_weight_tying()) tensors.emplace_back(kOutput, *FindTensor(tensors, kEmbedding));
  for (auto& [name, tensor] : tensors) name = names.ToHf(name).value();
  return tensors;
}

absl::Status CheckHfExport(const config::Model& model) {
  TITAN_RETURN_IF_ERROR(HfNames::Of(model).status());
  return HfConfigOf(model, "float32", MaxPositions(model, {})).status();
}

absl::Status WriteHf(const std::string& dir, const config::Model& model, const NamedTensors& parameters,
                     at::ScalarType dtype, const HfWriteOptions& options) {
  TITAN_ASSIGN_OR_RETURN(const ModelSpec spec, BuildModelSpec(model));
  TITAN_ASSIGN_OR_RETURN(const NamedTensors ordered, InOrder(spec, parameters, dir));
  const auto load = [&](const ParameterSpec& parameter) { return *FindTensor(ordered, parameter.name); };
  return WriteHf(dir, model, load, dtype, options);
}

absl::Status WriteHf(const std::string& dir, const config::Model& model, const LoadParameter& load,
                     at::ScalarType dtype, const HfWriteOptions& options) {
  std::error_code error;
  if (std::filesystem::exists(dir, error) && !std::filesystem::is_empty(dir, error)) {
    return absl::AlreadyExistsError(absl::StrCat(dir, ": not an empty folder; name a new one"));
  }
  TITAN_ASSIGN_OR_RETURN(const HfNames names, HfNames::Of(model));
  TITAN_ASSIGN_OR_RETURN(const ModelSpec spec, BuildModelSpec(model));
  OutTensors tensors;
  for (const ParameterSpec* parameter : ParametersOf(spec)) {
    tensors.push_back({names.ToHf(parameter->name).value(), parameter});
  }
  TITAN_ASSIGN_OR_RETURN(const std::string dtype_name, DtypeName(dtype));
  TITAN_ASSIGN_OR_RETURN(const std::string config, HfConfigOf(model, dtype_name, MaxPositions(model, options)));

  // Beside the target, so that it appears complete or not at all.
  const std::filesystem::path target = std::filesystem::absolute(dir / std::filesystem::path()).parent_path();
  const std::string parent = target.parent_path().string();
  const std::string partial = absl::StrCat(target.string(), ".tmp.", getpid());
  const absl::Status status = [&]() -> absl::Status {
    TITAN_RETURN_IF_ERROR(MakeDirectories(partial));
    TITAN_RETURN_IF_ERROR(WriteWeights(partial, tensors, load, dtype, options.max_shard_bytes));
    TITAN_RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(partial, "/", kConfigFile), config));
    if (rename(partial.c_str(), target.c_str()) != 0) return SystemError(errno, "cannot create", dir);
    return SyncDirectory(parent);
  }();
  if (!status.ok()) std::filesystem::remove_all(partial, error);
  return status;
}

}  // namespace titan
