// What a bundle and the flags together say about a run, before anything of it exists.

#ifndef TITAN_TRAIN_RUN_INPUTS_H_
#define TITAN_TRAIN_RUN_INPUTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/data/loader.h"
#include "titan/train/flags.h"
#include "titan/train/run_directory.h"

namespace titan {

struct RunInputs {
  std::string name;  // of the experiment: "llama3/debug"
  // The bundle's digest; with overrides, a digest of that, of the resolved experiment, and of the schedule that it
  // names.
  std::string run_id;
  std::string bundle_digest;
  std::shared_ptr<const config::Experiment> experiment;
  DataFiles files;
  std::string pipeline_schedule_csv;  // what the file in parallelism.pipeline_parallel_schedule_csv holds
  RunDirectory directory;
  int64_t num_parameters = 0;
  double flops_per_token = 0;
  std::string layout;           // "dp_shard 4 x tp 2"
  int64_t rows_per_step = 0;    // of all ranks
  int64_t rounds_per_step = 0;  // of gradient accumulation
  int64_t tokens_per_step() const;
};

// What the experiment of a bundle is called: "llama3/debug".
absl::StatusOr<std::string> ReadBundleName(const std::string& bundle);

// The experiment of a bundle with the overrides of the flags, --nproc among them. InvalidArgument holds all that is
// wrong with it.
absl::StatusOr<config::Experiment> ReadBundleExperiment(const TrainerFlags& flags);

// Reads the bundle, applies the overrides, decides about the run directory. Changes nothing. InvalidArgument holds all
// that is wrong with the experiment, or in what it differs from the run that it would continue. A rank looks at no more
// of the data than its size: see VerifyData.
absl::StatusOr<RunInputs> ReadRunInputs(const TrainerFlags& flags);

// InvalidArgument if the bundle's data is damaged. Of several ranks only the first of each machine reads it, and none
// where the supervisor has done so.
absl::Status VerifyData(const TrainerFlags& flags);

// "label", "value" pairs that tell a person what runs, and where its output goes.
std::vector<std::pair<std::string, std::string>> RunFacts(const RunInputs& inputs);

// The same with the run id: the head of a log.
std::vector<std::pair<std::string, std::string>> DescribeRun(const RunInputs& inputs);

}  // namespace titan

#endif  // TITAN_TRAIN_RUN_INPUTS_H_
