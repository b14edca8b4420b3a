// Looks at checkpoints, checks, converts and removes them. See kUsage.

#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/checkpoint/hf.h"
#include "titan/checkpoint/safetensors.h"
#include "titan/checkpoint/save.h"
#include "titan/checkpoint/store.h"
#include "titan/checkpoint/tensors.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr char kUsage[] = R"(usage: checkpoint COMMAND ARGUMENT...
  inspect PATH             lists what is in a checkpoint folder, one step of it, or a .safetensors file
  verify  PATH...          reads steps, or all steps of a checkpoint folder, and compares checksums; exit 1 on damage
  prune   DIR --keep_latest_k K       deletes all but the newest K steps, and what interrupted saves left
  to_hf   STEP DIR [--dtype float32|bfloat16|float16]    writes the model as a Hugging Face folder
  from_hf DIR OUT          writes OUT/step-0 with the model of a Hugging Face folder, for initial_load_path
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

absl::Status ToHf(const std::vector<std::string>& arguments) {
  at::ScalarType dtype = at::kFloat;
  FlagParser flags;
  flags.Choice("dtype", {{"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}}, &dtype);
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths(std::move(flags), arguments, 2));
  TITAN_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(paths[0]));
  config::Experiment experiment;
  if (!experiment.ParseFromString(checkpoint.experiment()) || !experiment.has_model()) {
    return absl::InvalidArgumentError(
        absl::StrCat(paths[0], "/experiment.binpb: no Experiment; the model's shape is not known"));
  }
  NamedTensors parameters;
  for (const auto& [name, unused] : checkpoint.index().tensors) {
    if (!absl::StartsWith(name, kModelPrefix)) continue;
    TITAN_ASSIGN_OR_RETURN(at::Tensor tensor, checkpoint.Load(name));
    parameters.emplace_back(name.substr(sizeof(kModelPrefix) - 1), std::move(tensor));
  }
  HfWriteOptions options;
  options.max_position_embeddings = experiment.training().seq_len();
  return WriteHf(paths[1], experiment.model(), parameters, dtype, options);
}

absl::Status FromHf(const std::vector<std::string>& arguments) {
  TITAN_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ParsePaths({}, arguments, 2));
  TITAN_ASSIGN_OR_RETURN(const HfCheckpoint checkpoint, OpenHf(paths[0]));
  CheckpointContents contents;
  for (const BlockSpec& block : checkpoint.spec().blocks) {
    for (const ParameterSpec& parameter : block.parameters) {
      TITAN_ASSIGN_OR_RETURN(at::Tensor tensor, checkpoint.Load(parameter.name, at::kFloat));
      contents.tensors.emplace_back(kModelPrefix + parameter.name, std::move(tensor));
    }
  }
  config::Experiment experiment;
  *experiment.mutable_model() = checkpoint.model();
  contents.experiment = experiment.SerializeAsString();
  contents.state = "{}";
  TITAN_ASSIGN_OR_RETURN(const std::string path, SaveCheckpoint(paths[1], contents));
  absl::PrintF("%s\n", path);
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
                     {"to_hf", ToHf},
                     {"from_hf", FromHf},
                     {"to_file", ToFile}},
                    arguments);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("checkpoint", titan::kUsage, argc, argv, titan::Run); }
