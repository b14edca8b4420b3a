// How fast one device trains an experiment. See kUsage.

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/quantities.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/config/resolved_json.h"
#include "titan/data/loader.h"
#include "titan/plan/accelerators.h"
#include "titan/plan/model_spec.h"
#include "titan/train/allocator.h"
#include "titan/train/device.h"
#include "titan/train/exit_code.h"
#include "titan/train/torch_errors.h"
#include "titan/train/trainer.h"
#include "tools/bundle/data_files.h"

namespace titan {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kUsage =
    R"(usage: step_benchmark EXPERIMENT [--steps N] [--warmup N] [--synthetic] [--set path=value]...

Runs training steps of EXPERIMENT, a bundle or an experiment.json or .binpb file, on the device that it names, and prints
what they took: a table, then one line of JSON.
  --steps      measured steps (10)
  --warmup     steps before them (3)
  --synthetic  random tokens instead of the bundle's data; always so for a file
)";

struct Arguments {
  std::string experiment;
  std::vector<std::string> overrides;
  int64_t steps = 10;
  int64_t warmup = 3;
  bool synthetic = false;
};

absl::StatusOr<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  std::vector<std::string> experiments;
  FlagParser flags;
  flags.Positional(&experiments);
  flags.List("set", &arguments.overrides);
  flags.Number("steps", "a number of steps", 1, &arguments.steps);
  flags.Number("warmup", "a number of steps", 1, &arguments.warmup);
  flags.Switch("synthetic", &arguments.synthetic);
  TITAN_RETURN_IF_ERROR(flags.Parse(words));
  if (experiments.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected one experiment, got ", experiments.size(), "; see --help"));
  }
  arguments.experiment = UserPath(experiments[0]);
  return arguments;
}

absl::StatusOr<config::Experiment> ReadAny(const Arguments& arguments, bool is_bundle) {
  const std::string path = is_bundle ? arguments.experiment + "/experiment.json" : arguments.experiment;
  TITAN_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  if (absl::EndsWith(path, ".binpb")) {
    config::Experiment stored;
    if (!stored.ParseFromString(text)) return absl::InvalidArgumentError(path + " is not a serialized Experiment");
    text = ResolvedJson(stored);
  }
  return ReadExperiment(text, {.source_name = path, .overrides = arguments.overrides});
}

struct Measurement {
  double first_step_seconds = 0;  // from the start of the process to the end of the first step
  std::vector<double> step_seconds;
  int64_t memory_bytes = 0;
  double first_loss = 0;
  double last_loss = 0;
};

absl::StatusOr<Measurement> Measure(const config::Experiment& experiment, const DataFiles& files, c10::Device device,
                                    const Arguments& arguments, Clock::time_point start) {
  Measurement result;
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<Loader> loader, Loader::Create(experiment, files));
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(experiment, {.device = device}));
  for (int64_t step = 0; step < arguments.warmup + arguments.steps; ++step) {
    const auto begin = Clock::now();
    TITAN_ASSIGN_OR_RETURN(const Batch batch, loader->Next());
    TITAN_ASSIGN_OR_RETURN(const StepResult loss, trainer->Step(batch));
    const auto end = Clock::now();
    if (step == 0) {
      result.first_loss = loss.loss;
      result.first_step_seconds = std::chrono::duration<double>(end - start).count();
    }
    if (step >= arguments.warmup) result.step_seconds.push_back(std::chrono::duration<double>(end - begin).count());
    result.last_loss = loss.loss;
  }
  result.memory_bytes = PeakMemoryBytes(device);
  return result;
}

absl::Status Print(const config::Experiment& experiment, Measurement measurement) {
  std::sort(measurement.step_seconds.begin(), measurement.step_seconds.end());
  const double median = measurement.step_seconds[measurement.step_seconds.size() / 2];
  const config::Training& training = experiment.training();
  const int64_t rows = training.global_batch_size() > 0 ? training.global_batch_size() : training.local_batch_size();
  const double tokens_per_second = static_cast<double>(rows * training.seq_len()) / median;
  TITAN_ASSIGN_OR_RETURN(const ModelSpec spec, BuildModelSpec(experiment.model()));
  const double flops = tokens_per_second * FlopsPerToken(experiment.model(), spec, training.seq_len());
  const double peak_flops = FactsOf(experiment.cluster().accelerator()).peak_flops;

  const auto line = [](const char* label, const std::string& value) {
    std::cout << std::left << std::setw(22) << label << value << "\n";
  };
  line("device", DescribeDevice(experiment.cluster()));
  line("parameters", FormatCount(spec.num_parameters()));
  line("tokens per step", FormatCount(rows * training.seq_len()));
  line("step, median", FormatDuration(median));
  line("step, fastest", FormatDuration(measurement.step_seconds.front()));
  line("tokens/s", FormatCount(static_cast<int64_t>(tokens_per_second)));
  line("model FLOP/s", FormatScaled(flops));
  if (peak_flops > 0) line("MFU", absl::StrCat(100 * flops / peak_flops, " %"));
  line("peak memory", FormatBytes(measurement.memory_bytes));
  line("time to first step", FormatDuration(measurement.first_step_seconds));
  line("loss, first and last", absl::StrCat(measurement.first_loss, ", ", measurement.last_loss));

  nlohmann::json json = {{"device", DescribeDevice(experiment.cluster())},
                         {"parameters", spec.num_parameters()},
                         {"tokens_per_step", rows * training.seq_len()},
                         {"step_seconds", median},
                         {"step_seconds_min", measurement.step_seconds.front()},
                         {"tokens_per_second", tokens_per_second},
                         {"tflops", flops / 1e12},
                         {"mfu", peak_flops > 0 ? flops / peak_flops : 0},
                         {"memory_bytes", measurement.memory_bytes},
                         {"first_step_seconds", measurement.first_step_seconds},
                         {"first_loss", measurement.first_loss},
                         {"last_loss", measurement.last_loss}};
  std::cout << json.dump() << std::endl;
  return absl::OkStatus();
}

absl::Status Run(const Arguments& arguments, Clock::time_point start) {
  const bool is_bundle = std::filesystem::is_directory(arguments.experiment);
  TITAN_ASSIGN_OR_RETURN(config::Experiment experiment, ReadAny(arguments, is_bundle));
  DataFiles files;
  if (arguments.synthetic || !is_bundle) {
    experiment.mutable_data()->clear_sources();
    experiment.mutable_data()->add_sources()->set_corpus("synthetic");
  } else {
    TITAN_ASSIGN_OR_RETURN(files, ReadDataFiles(arguments.experiment));
  }
  TITAN_ASSIGN_OR_RETURN(const c10::Device device, DeviceFor(experiment.cluster()));
  return CatchTorchErrors("the benchmark", [&]() -> absl::Status {
    TITAN_ASSIGN_OR_RETURN(Measurement measurement, Measure(experiment, files, device, arguments, start));
    return Print(experiment, std::move(measurement));
  });
}

int Main(const std::vector<std::string>& words) {
  const auto start = Clock::now();
  KeepFreedMemory();
  if (words.empty() || WantsHelp(words)) {
    std::cout << kUsage;
    return words.empty() ? 2 : 0;
  }
  const absl::StatusOr<Arguments> arguments = Parse(words);
  const absl::Status status = arguments.ok() ? Run(*arguments, start) : arguments.status();
  if (!status.ok()) std::cerr << "step_benchmark: " << status.message() << std::endl;
  return static_cast<int>(ExitCodeOf(status));
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::Main({argv + 1, argv + argc}); }
