#include "titan/train/run_inputs.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/quantities.h"
#include "titan/base/sha256.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/plan/mesh.h"
#include "titan/plan/model_spec.h"
#include "titan/plan/pipeline_plan.h"
#include "titan/train/device.h"
#include "titan/train/progress.h"
#include "titan/train/trainer.h"
#include "tools/bundle/bundle.h"
#include "tools/bundle/data_files.h"

namespace titan {
namespace {

// --nproc N means N processes on this machine, whatever the experiment says.
std::vector<std::string> Overrides(const TrainerFlags& flags) {
  std::vector<std::string> overrides = flags.overrides;
  if (flags.nproc > 0) overrides.push_back(absl::StrCat("cluster.devices_per_node=", flags.nproc));
  return overrides;
}

absl::Status CheckWorldSize(const config::Cluster& cluster, int64_t world_size) {
  const int64_t wanted = cluster.num_nodes() * cluster.devices_per_node();
  if (wanted == world_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the experiment's cluster is ", cluster.num_nodes(), " x ",
                                                 cluster.devices_per_node(), " = ", wanted,
                                                 " processes (cluster.num_nodes, cluster.devices_per_node), but ",
                                                 world_size, world_size == 1 ? " was" : " were", " started"));
}

// A file of the bundle by its name, any other one by its absolute path.
absl::StatusOr<std::string> ReadScheduleCsv(const std::string& bundle, const Manifest& manifest,
                                            const config::Parallelism& parallelism) {
  const std::string& name = parallelism.pipeline_parallel_schedule_csv();
  if (name.empty()) return "";
  absl::StatusOr<std::string> csv =
      absl::StartsWith(name, "/") ? ReadFile(name) : ReadBundleFile(bundle, manifest, "files/" + name);
  if (csv.ok()) return csv;
  return absl::InvalidArgumentError(absl::StrCat(
      "parallelism.pipeline_parallel_schedule_csv: ", csv.status().message(),
      ". It takes the name of a file in `files` of the titan_experiment, or the absolute path of any other file"));
}

}  // namespace

int64_t RunInputs::tokens_per_step() const { return rows_per_step * experiment->training().seq_len(); }

// The plan carries the experiment's name, which is not part of its configuration.
absl::StatusOr<std::string> ReadBundleName(const std::string& bundle) {
  TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(bundle + "/plan.json"));
  const auto plan = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!plan.is_object() || plan.count("name") == 0 || !plan["name"].is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(bundle, "/plan.json has no name; build the bundle again"));
  }
  return plan["name"].get<std::string>();
}

absl::StatusOr<config::Experiment> ReadBundleExperiment(const TrainerFlags& flags) {
  TITAN_ASSIGN_OR_RETURN(const std::string json, ReadFile(flags.bundle + "/experiment.json"));
  return ReadExperiment(json, {.source_name = "experiment.json", .overrides = Overrides(flags)});
}

absl::StatusOr<RunInputs> ReadRunInputs(const TrainerFlags& flags) {
  RunInputs inputs;
  TITAN_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(flags.bundle));
  TITAN_ASSIGN_OR_RETURN(config::Experiment experiment, ReadBundleExperiment(flags));
  if (!flags.dry_run) TITAN_RETURN_IF_ERROR(CheckWorldSize(experiment.cluster(), flags.identity.world_size));
  TITAN_ASSIGN_OR_RETURN(const Mesh mesh,
                         Mesh::Create(experiment.parallelism(),
                                      experiment.cluster().num_nodes() * experiment.cluster().devices_per_node()));
  inputs.layout = mesh.Describe();
  TITAN_ASSIGN_OR_RETURN(inputs.name, ReadBundleName(flags.bundle));
  const bool is_rank = flags.identity.port != 0;
  TITAN_ASSIGN_OR_RETURN(inputs.files, ReadDataFiles(flags.bundle, is_rank ? 0 : kMaxHashedBytes));
  inputs.run_id = inputs.bundle_digest = manifest.digest;
  TITAN_ASSIGN_OR_RETURN(inputs.pipeline_schedule_csv,
                         ReadScheduleCsv(flags.bundle, manifest, experiment.parallelism()));
  if (!Overrides(flags).empty()) {
    inputs.run_id = Sha256Hex(manifest.digest + CanonicalBytes(experiment) + inputs.pipeline_schedule_csv);
  }
  // The other ranks hear from the first.
  if (flags.identity.rank == 0) {
    TITAN_ASSIGN_OR_RETURN(inputs.directory,
                           PlanRunDirectory(flags.out.empty() ? DefaultOutDirectory(inputs.name) : flags.out,
                                            flags.resume, experiment.checkpoint(), inputs.run_id));
    const RunDirectory& directory = inputs.directory;
    // Of a seed checkpoint nothing but the parameters is used.
    if (directory.checkpoint_step > 0 && !flags.allow_digest_change) {
      TITAN_RETURN_IF_ERROR(CheckSameRun(directory.checkpoint, experiment, {inputs.run_id, inputs.bundle_digest}));
    }
  }

  TITAN_ASSIGN_OR_RETURN(const ModelSpec spec, BuildModelSpec(experiment.model()));
  if (mesh.size(MeshAxis::kPp) > 1) {
    TITAN_RETURN_IF_ERROR(PlanPipeline(experiment, spec, inputs.pipeline_schedule_csv).status());
  }
  const config::Training& training = experiment.training();
  inputs.num_parameters = spec.num_parameters();
  inputs.flops_per_token = FlopsPerToken(experiment.model(), spec, training.seq_len());
  TITAN_ASSIGN_OR_RETURN(inputs.rows_per_step, RowsPerStep(training, mesh));
  inputs.rounds_per_step =
      inputs.rows_per_step / training.local_batch_size() / mesh.size({MeshAxis::kDpReplicate, MeshAxis::kDpShard});
  inputs.experiment = std::make_shared<const config::Experiment>(std::move(experiment));
  return inputs;
}

absl::Status VerifyData(const TrainerFlags& flags) {
  const RankIdentity& identity = flags.identity;
  if (identity.port == 0 || identity.supervised_words > 0 || identity.local_rank != 0) return absl::OkStatus();
  return ReadDataFiles(flags.bundle).status();
}

std::vector<std::pair<std::string, std::string>> RunFacts(const RunInputs& inputs) {
  const config::Training& training = inputs.experiment->training();
  const bool bfloat16 = training.mixed_precision_param() == config::Training::DTYPE_BFLOAT16;
  const bool bitwise = inputs.experiment->determinism().mode() == config::Determinism::MODE_BITWISE;
  const int64_t microbatches = inputs.rounds_per_step;
  return {
      {"model",
       absl::StrCat(inputs.experiment->model().flavor(), inputs.experiment->model().flavor().empty() ? "" : ", ",
                    FormatCount(inputs.num_parameters), " parameters")},
      {"step",
       absl::StrCat(inputs.rows_per_step, " x ", training.seq_len(), " = ", FormatCount(inputs.tokens_per_step()),
                    " tokens in ", microbatches, microbatches == 1 ? " microbatch" : " microbatches",
                    inputs.layout == "1 process" ? "" : " a rank")},
      {"steps", FormatCount(training.steps())},
      {"device", DescribeDevice(inputs.experiment->cluster())},
      {"layout", inputs.layout},
      {"precision", absl::StrCat(bfloat16 ? "bfloat16" : "float32", " compute, float32 parameters",
                                 bitwise ? ", bitwise reproducible" : "")},
      {"output", inputs.directory.path},
  };
}

std::vector<std::pair<std::string, std::string>> DescribeRun(const RunInputs& inputs) {
  std::vector<std::pair<std::string, std::string>> lines = RunFacts(inputs);
  lines.emplace_back("run id", inputs.run_id);
  return lines;
}

}  // namespace titan
