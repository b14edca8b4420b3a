// Looks at checkpoints, checks, converts and removes them. See kUsage.

#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/checkpoint/compare.h"
#include "titan/checkpoint/export.h"
#include "titan/checkpoint/hf.h"
#include "titan/checkpoint/hf_config.h"
#include "titan/checkpoint/reshard.h"
#include "titan/checkpoint/safetensors.h"
#include "titan/checkpoint/save.h"
#include "titan/checkpoint/store.h"
#include "titan/checkpoint/tensors.h"
#include "titan/checkpoint/torch_file.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr char kUsage[] = R"(usage: checkpoint COMMAND ARGUMENT...
  inspect PATH             lists what is in a checkpoint folder, one step of it, or a .safetensors file
  verify  PATH...          reads steps, or all steps of a checkpoint folder, and compares checksums; exit 1 on damage
  prune   DIR --keep_latest_k K       deletes all but the newest K steps, and what interrupted saves left
  reshard STEP DIR --shards N         writes DIR/step-N again, bit for bit, as N ranks would have: in N files
  diff    A B [--top N]    how far each tensor of two steps or Hugging Face folders is from the other's, the furthest
                           first (of those the first N); exit 0 if all are equal, 1 if not, 2 if one cannot be read
  to_hf   STEP DIR [--dtype float32|bfloat16|float16] [--max_shard_bytes B]
                           writes the model as a Hugging Face folder, in files of up to B bytes
  from_hf DIR OUT          writes OUT/step-0 with the model of a Hugging Face folder, for initial_load_path
  to_pt   STEP FILE [--dtype ...]     writes the model as a state dict of PyTorch, under its Hugging Face names
  from_pt FILE OUT --config FILE      writes OUT/step-0 with the model of such a state dict, which the config.json of
                           its Hugging Face folder describes; no code in it is run, and what is no tensor is refused
  to_file STEP FILE        writes all tensors of a step to one .safetensors file)";

constexpr char kModelPrefix[] = "model.";

// Reads a command line with `count` paths beside the flags; with one or more if `count` is kAnyNumber.
constexpr size_t kAnyNumber = 0;

absl::StatusOr<std::vector<std::string>> ParsePaths(FlagParser flags, const std::vector<std::string>& arguments,
                                                    size_t count) {
  std::vector<std::string> paths;
  flags.Positional(&paths);
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));
  if (count == kAnyNumber ? paths.empty() : paths.size() != count) {
    const std::string expected = count == kAnyNumber ? "one or more" : absl::StrCat(count);
    return absl::InvalidArgumentError(
        absl::StrCat("expected ", expected, " path(s), got ", paths.size(), "; see --help"));
  }
  for (std::string& path : paths) path = UserPath(path);
  return paths;
}

std::string ShapeText(const std::vector<int64_t>& shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

void PrintRow(const std::string& name, StoredDtype dtype, const std::vector<int64_t>& shape, size_t num_pieces) {
  absl::PrintF("%-64s %-8s %-20s %14d  %d\n", name, NameOf(dtype), ShapeText(shape), NumBytes(dtype, shape).value_or(0),
               num_pieces);
}

void PrintTableHead() { absl::PrintF("%-64s %-8s %-20s %14s  %s\n", "tensor", "dtype", "shape", "bytes", "pieces"); }

absl::Status InspectStep(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(path));
  const CheckpointIndex& index = checkpoint.index();
  PrintTableHead();
  int64_t total = 0;
  for (const auto& [name, tensor] : index.tensors) {
    PrintRow(name, tensor.dtype, tensor.shape, tensor.pieces.size());
    total += NumBytes(tensor.dtype, tensor.shape).value();
  }
  absl::PrintF("%s: step %d, %d tensors, %d bytes, %d shard(s), experiment of %d bytes\nstate: %s\n", path,
               checkpoint.step(), index.tensors.size(), total, index.shards.size(), checkpoint.experiment().size(),
               checkpoint.state());
  return absl::OkStatus();
}

absl::Status InspectFile(const std::string& path) {
  TITAN_ASSIGN_OR_RETURN(const std::shared_ptr<const SafetensorsFile> file, SafetensorsFile::Open(path));
  PrintTableHead();
  for (const SafetensorsFile::Entry& entry : file->entries()) PrintRow(entry.name, entry.dtype, entry.shape, 1);
  for (const auto& [key, value] : file->metadata()) absl::PrintF("metadata: %s = %s\n", key, value);
  return absl::OkStatus();
}

// The steps that `path` names: itself, or all below it.
absl::StatusOr<std::vector<std::string>> StepsAt(const std::string& path) {
  if (!std::filesystem::exists(path)) return absl::NotFoundError(absl::StrCat(path, ": no such file or folder"));
  TITAN_ASSIGN_OR_RETURN(const std::vector<StoredStep> steps, ListCheckpoints(path));
  std::vector<std::string> paths;
  for (const StoredStep& step : steps) paths.push_back(step.path);
  if (paths.empty()) paths.push_back(path);
  return paths;
}

absl::Status Inspect(const std::vector<std::string>& arguments) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths({}, arguments, 1));
  const std::string& path = paths[0];
  if (std::filesystem::is_regular_file(path)) return InspectFile(path);
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> steps, StepsAt(path));
  if (steps[0] == path) return InspectStep(path);
  for (const std::string& step : steps) {
    const absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(step);
    if (!checkpoint.ok()) {
      absl::PrintF("%s: %s\n", step, checkpoint.status().message());
      continue;
    }
    absl::PrintF("%s: %d tensors, %d shard(s)\n", step, checkpoint->index().tensors.size(),
                 checkpoint->index().shards.size());
  }
  return absl::OkStatus();
}

absl::Status Verify(const std::vector<std::string>& arguments) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths({}, arguments, kAnyNumber));
  std::vector<std::string> damage;
  for (const std::string& path : paths) {
    TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> steps, StepsAt(path));
    for (const std::string& step : steps) {
      const absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(step);
      const absl::Status status = checkpoint.ok() ? checkpoint->Verify() : checkpoint.status();
      if (status.ok()) {
        absl::PrintF("%s: %d tensors, all checksums match\n", step, checkpoint->index().tensors.size());
      } else {
        damage.emplace_back(status.message());
      }
    }
  }
  return damage.empty() ? absl::OkStatus() : absl::DataLossError(absl::StrJoin(damage, "\n"));
}

absl::Status Prune(const std::vector<std::string>& arguments) {
  int64_t keep = 0;
  FlagParser flags;
  flags.Number("keep_latest_k", "a number of steps", 1, &keep);
  flags.Require({"keep_latest_k"});
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths(std::move(flags), arguments, 1));
  return PruneCheckpoints(paths[0], keep);
}

absl::Status Reshard(const std::vector<std::string>& arguments) {
  int64_t shards = 0;
  FlagParser flags;
  flags.Number("shards", "a number of files", 1, &shards);
  flags.Require({"shards"});
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths(std::move(flags), arguments, 2));
  TITAN_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(paths[0]));
  TITAN_ASSIGN_OR_RETURN(const std::string path, titan::Reshard(checkpoint, paths[1], shards));
  absl::PrintF("%s\n", path);
  return absl::OkStatus();
}

void DeclareDtype(FlagParser& flags, at::ScalarType* dtype) {
  flags.Choice("dtype", {{"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}}, dtype);
}

absl::Status ToHf(const std::vector<std::string>& arguments) {
  at::ScalarType dtype = at::kFloat;
  HfWriteOptions options;
  FlagParser flags;
  DeclareDtype(flags, &dtype);
  flags.Number("max_shard_bytes", "a number of bytes", 1, &options.max_shard_bytes);
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths(std::move(flags), arguments, 2));
  TITAN_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(paths[0]));
  return ExportHf(checkpoint, paths[1], dtype, options);
}

absl::Status ToPt(const std::vector<std::string>& arguments) {
  at::ScalarType dtype = at::kFloat;
  FlagParser flags;
  DeclareDtype(flags, &dtype);
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths(std::move(flags), arguments, 2));
  TITAN_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(paths[0]));
  return ExportTorchFile(checkpoint, paths[1], dtype);
}

// Writes `out`/step-0 with the parameters of a model, by their names in it.
absl::Status SaveModel(const std::string& out, const config::Model& model, const NamedTensors& parameters) {
  CheckpointContents contents;
  for (const auto& [name, tensor] : parameters) contents.tensors.emplace_back(kModelPrefix + name, tensor);
  config::Experiment experiment;
  *experiment.mutable_model() = model;
  contents.experiment = experiment.SerializeAsString();
  contents.state = "{}";
  TITAN_ASSIGN_OR_RETURN(const std::string path, SaveCheckpoint(out, contents));
  absl::PrintF("%s\n", path);
  return absl::OkStatus();
}

absl::Status FromHf(const std::vector<std::string>& arguments) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths({}, arguments, 2));
  TITAN_ASSIGN_OR_RETURN(const HfCheckpoint checkpoint, OpenHf(paths[0]));
  NamedTensors parameters;
  for (const BlockSpec& block : checkpoint.spec().blocks) {
    for (const ParameterSpec& parameter : block.parameters) {
      TITAN_ASSIGN_OR_RETURN(at::Tensor tensor, checkpoint.Load(parameter.name, at::kFloat));
      parameters.emplace_back(parameter.name, std::move(tensor));
    }
  }
  return SaveModel(paths[1], checkpoint.model(), parameters);
}

absl::Status FromPt(const std::vector<std::string>& arguments) {
  std::string config;
  FlagParser flags;
  flags.Path("config", &config);
  flags.Require({"config"});
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths(std::move(flags), arguments, 2));
  TITAN_ASSIGN_OR_RETURN(const std::string json, ReadFile(config));
  const absl::StatusOr<config::Model> model = ModelFromHfConfig(json);
  if (!model.ok()) return absl::InvalidArgumentError(absl::StrCat(config, ": ", model.status().message()));
  TITAN_ASSIGN_OR_RETURN(const NamedTensors tensors, ReadTorchFile(paths[0]));
  TITAN_ASSIGN_OR_RETURN(NamedTensors parameters, FromHfNames(*model, tensors, paths[0]));
  for (auto& [name, tensor] : parameters) tensor = tensor.to(at::kFloat);
  return SaveModel(paths[1], *model, parameters);
}

void PrintDistances(const Comparison& comparison, int64_t top) {
  if (comparison.different.empty()) return;
  absl::PrintF("%-64s %-20s %12s  %s\n", "tensor", "shape", "max abs", "relative L2");
  for (const TensorDistance& distance : comparison.different) {
    if (top-- == 0) return;
    const std::string shape = distance.left_shape == distance.right_shape
                                  ? ShapeText(distance.left_shape)
                                  : absl::StrCat(ShapeText(distance.left_shape), " ", ShapeText(distance.right_shape));
    absl::PrintF("%-64s %-20s %12.4g  %.4g\n", distance.name, shape, distance.max_abs, distance.relative_l2);
  }
}

absl::StatusOr<Comparison> CompareAt(const std::vector<std::string>& paths) {
  TITAN_ASSIGN_OR_RETURN(const TensorSource left, OpenTensorSource(paths[0]));
  TITAN_ASSIGN_OR_RETURN(const TensorSource right, OpenTensorSource(paths[1]));
  return Compare(left, right);
}

absl::Status Diff(const std::vector<std::string>& arguments) {
  int64_t top = -1;
  FlagParser flags;
  flags.Number("top", "a number of tensors", 0, &top);
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths(std::move(flags), arguments, 2));
  const absl::StatusOr<Comparison> comparison = CompareAt(paths);
  // Damage, which is exit code 1 of other commands, is none of a comparison that was made.
  if (!comparison.ok()) return absl::InvalidArgumentError(comparison.status().message());
  PrintDistances(*comparison, top);
  for (const std::string& name : comparison->only_left) absl::PrintF("only in %s: %s\n", paths[0], name);
  for (const std::string& name : comparison->only_right) absl::PrintF("only in %s: %s\n", paths[1], name);
  const std::string summary =
      absl::StrCat(comparison->num_equal, " tensors equal, ", comparison->different.size(), " different, ",
                   comparison->only_left.size() + comparison->only_right.size(), " in one alone");
  if (!comparison->is_equal()) return absl::AbortedError(summary);
  absl::PrintF("%s\n", summary);
  return absl::OkStatus();
}

// One tensor at a time: a checkpoint may be larger than this machine's memory.
absl::Status WriteAllTensors(const Checkpoint& checkpoint, const std::string& path) {
  std::vector<TensorHeader> headers;
  for (const auto& [name, tensor] : checkpoint.index().tensors) headers.push_back({name, tensor.dtype, tensor.shape});
  TITAN_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, headers));
  for (const TensorHeader& header : headers) {
    TITAN_ASSIGN_OR_RETURN(const at::Tensor tensor, checkpoint.Load(header.name));
    TITAN_RETURN_IF_ERROR(writer.Append(BytesOf(tensor)));
  }
  return writer.Close();
}

absl::Status ToFile(const std::vector<std::string>& arguments) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths({}, arguments, 2));
  TITAN_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(paths[0]));
  const std::string& path = paths[1];
  const std::string temporary = path + ".tmp";
  absl::Status status = WriteAllTensors(checkpoint, temporary);
  std::error_code error;
  if (status.ok()) {
    std::filesystem::rename(temporary, path, error);
    if (error) status = SystemError(error.value(), "cannot create", path);
  }
  if (!status.ok()) std::filesystem::remove(temporary, error);
  return status;
}

absl::Status Run(const std::vector<std::string>& arguments) {
  return RunCommand({{"inspect", Inspect},
                     {"verify", Verify},
                     {"prune", Prune},
                     {"reshard", Reshard},
                     {"diff", Diff},
                     {"to_hf", ToHf},
                     {"from_hf", FromHf},
                     {"to_pt", ToPt},
                     {"from_pt", FromPt},
                     {"to_file", ToFile}},
                    arguments);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("checkpoint", titan::kUsage, argc, argv, titan::Run); }
