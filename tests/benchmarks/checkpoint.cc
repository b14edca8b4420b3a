// What checkpoints cost an experiment on this machine, and what those of PyTorch cost beside it. See kUsage.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/benchmarks/checkpoint_cost.h"
#include "tests/benchmarks/program.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/metrics/jsonl.h"

namespace titan {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kUsage =
    R"(usage: checkpoint --bundle DIR [--out DIR] [--steps N] [--interval N] [--nproc N] [--mode NAME]... [--python PROGRAM]
                  [--peer FILE] [--set path=value]...

Trains the bundle's experiment without checkpoints and with one every so many steps, and prints a table: what a save
holds training up for, how fast it is written, and by how much a step is slower while it is. With --python, the same of
torch.distributed.checkpoint.async_save with parameters and optimizer state of the same sizes, as many tokens a step,
and one process.
  --bundle    what //experiments/...:x.bundle wrote (--thin or not)
  --out       run directories and logs (checkpoint_benchmark); the checkpoints in it are removed
  --steps     of each run (40), of which the first five do not count
  --interval  steps from one save to the next (10); writing should take fewer
  --mode      async or async_with_pinned_mem; repeatable; both unless given
  --python    a Python that has torch
  --peer      checkpoint_peer.py, if it is not where `bazel run` has it
  --set       for all of our runs
)";

constexpr int64_t kWarmup = 5;

struct Arguments {
  std::string bundle, out = "checkpoint_benchmark", python, peer = "tests/benchmarks/checkpoint_peer.py";
  int64_t steps = 40, interval = 10, nproc = 1;
  std::vector<std::string> modes, overrides;
};

absl::StatusOr<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  FlagParser flags;
  flags.Path("bundle", &arguments.bundle);
  flags.Path("out", &arguments.out);
  flags.Number("steps", "a number of steps", kWarmup + 2, &arguments.steps);
  flags.Number("interval", "a number of steps", 1, &arguments.interval);
  flags.Number("nproc", "a number of processes", 1, &arguments.nproc);
  flags.List("mode", &arguments.modes);
  flags.Text("python", &arguments.python);
  flags.Path("peer", &arguments.peer);
  flags.List("set", &arguments.overrides);
  flags.Require({"bundle"});
  TITAN_RETURN_IF_ERROR(flags.Parse(words));
  arguments.out = UserPath(arguments.out);
  if (arguments.modes.empty()) arguments.modes = {"async", "async_with_pinned_mem"};
  return arguments;
}

std::vector<std::string> OurCommand(const Arguments& arguments, const std::string& out, const std::string& mode) {
  std::vector<std::string> all = {absl::StrCat("training.steps=", arguments.steps), "metrics.log_freq=1",
                                  "metrics.enable_tensorboard=false", "lr_scheduler.warmup_steps=2"};
  if (mode.empty()) {
    all.push_back("checkpoint.enable=false");
  } else {
    const std::vector<std::string> saving = {"checkpoint.enable=true", "checkpoint.keep_latest_k=2",
                                             absl::StrCat("checkpoint.interval=", arguments.interval),
                                             "checkpoint.async_mode=" + mode};
    all.insert(all.end(), saving.begin(), saving.end());
  }
  all.insert(all.end(), arguments.overrides.begin(), arguments.overrides.end());
  std::vector<std::string> command = {arguments.bundle + "/run", "--out", out, "--nproc",
                                      absl::StrCat(arguments.nproc)};
  for (const std::string& override : all) {
    command.push_back("--set");
    command.push_back(override);
  }
  return command;
}

// Of one of the checkpoints below `folder`: of its files, and their names.
int64_t BytesOfOne(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (const fs::directory_entry& step : fs::directory_iterator(folder, error)) {
    if (step.path().extension() == ".tmp" || !step.is_directory()) continue;
    int64_t of_step = 0;
    for (const fs::directory_entry& file : fs::recursive_directory_iterator(step.path())) {
      if (file.is_regular_file()) of_step += static_cast<int64_t>(file.file_size());
    }
    bytes = std::max(bytes, of_step);
  }
  return bytes;
}

// What other rows need of one; nothing if its program failed.
struct Row {
  double step = 0;     // seconds
  int64_t tokens = 0;  // of a step
};

// Runs it and prints its row; `plain` is a step without checkpoints, 0 if this is that.
absl::StatusOr<Row> RunRow(const std::string& name, const std::vector<std::string>& command, const std::string& out,
                           double plain) {
  fs::remove_all(out);
  TITAN_ASSIGN_OR_RETURN(const int code, RunProgram(command, out + ".log"));
  if (code != 0) {
    std::cout << "| " << name << " | exit code " << code << ", see " << out << ".log |" << std::endl;
    return Row{};
  }
  TITAN_ASSIGN_OR_RETURN(const LoggedMetrics metrics, ReadJsonl(out + "/metrics.jsonl"));
  if (metrics.steps.empty()) return absl::InternalError(absl::StrCat(out, "/metrics.jsonl: no steps"));
  const CheckpointCost cost = CostOf(metrics.steps, kWarmup);
  const int64_t bytes = BytesOfOne(out + "/checkpoint");
  fs::remove_all(out + "/checkpoint");
  const auto percent = [](double part) { return absl::StrFormat("%+.1f %%", part * 100); };
  std::cout << absl::StrFormat("| %s | %d | %.1f, %.1f | %.2f | %.2f | %.2f | %.1f (%d) | %.1f (%d) | %s | %s |", name,
                               cost.saves, cost.first_stall * 1e3, cost.stall * 1e3, static_cast<double>(bytes) / 1e9,
                               cost.write, cost.write > 0 ? static_cast<double>(bytes) / 1e9 / cost.write : 0,
                               cost.writing_step * 1e3, cost.writing_steps, cost.free_step * 1e3, cost.free_steps,
                               cost.saves > 0 ? percent(cost.slow_down()) : "",
                               plain > 0 ? percent(cost.step / plain - 1) : "")
            << std::endl;
  return Row{cost.step, metrics.steps.back().tokens};
}

absl::Status RunPeer(const Arguments& arguments, const std::string& index, int64_t tokens) {
  double plain = 0;
  std::vector<std::string> modes = arguments.modes;
  modes.insert(modes.begin(), "none");
  for (const std::string& mode : modes) {
    const std::string out = absl::StrCat(arguments.out, "/torch_", mode);
    TITAN_ASSIGN_OR_RETURN(
        const Row row, RunRow("torch " + mode,
                              {arguments.python, arguments.peer, "--index", index, "--out", out, "--mode", mode,
                               "--tokens", absl::StrCat(tokens), "--steps", absl::StrCat(arguments.steps), "--interval",
                               absl::StrCat(arguments.interval)},
                              out, plain));
    if (mode == "none") plain = row.step;
  }
  return absl::OkStatus();
}

// The index of a checkpoint of the experiment, for the sizes of its tensors.
absl::StatusOr<std::string> WriteIndex(const Arguments& arguments) {
  const std::string out = arguments.out + "/sizes";
  fs::remove_all(out);
  Arguments one_step = arguments;
  one_step.steps = 1;
  TITAN_ASSIGN_OR_RETURN(const int code, RunProgram(OurCommand(one_step, out, "disabled"), out + ".log"));
  const std::string index = out + "/index.json";
  std::error_code error;
  fs::copy_file(out + "/checkpoint/step-1/index.json", index, error);
  if (code != 0 || error) return absl::InternalError(absl::StrCat("exit code ", code, ", see ", out, ".log"));
  fs::remove_all(out + "/checkpoint");
  return index;
}

absl::Status Run(const std::vector<std::string>& words) {
  TITAN_ASSIGN_OR_RETURN(const Arguments arguments, Parse(words));
  if (!fs::exists(arguments.bundle + "/run")) {
    return absl::NotFoundError(
        absl::StrCat(arguments.bundle,
                     " is no bundle; ./bazelw run //experiments/llama3:debug.bundle -- --out DIR "
                     "writes one"));
  }
  TITAN_RETURN_IF_ERROR(MakeDirectories(arguments.out));
  std::cout << "| run | saves | stall of the first, of others (ms) | GB | write (s) | GB/s | step while writing (ms) "
               "(steps) | step otherwise (ms) (steps) | slower while writing | slower in all |\n"
               "|---|---|---|---|---|---|---|---|---|---|"
            << std::endl;
  TITAN_ASSIGN_OR_RETURN(
      const Row plain, RunRow("none", OurCommand(arguments, arguments.out + "/none", ""), arguments.out + "/none", 0));
  for (const std::string& mode : arguments.modes) {
    const std::string out = absl::StrCat(arguments.out, "/", mode);
    TITAN_RETURN_IF_ERROR(RunRow(mode, OurCommand(arguments, out, mode), out, plain.step).status());
  }
  if (arguments.python.empty() || plain.tokens == 0) return absl::OkStatus();
  TITAN_ASSIGN_OR_RETURN(const std::string index, WriteIndex(arguments));
  return RunPeer(arguments, index, plain.tokens / arguments.nproc);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("checkpoint", titan::kUsage, argc, argv, titan::Run); }
