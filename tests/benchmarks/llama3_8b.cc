// Llama 3 8B on the GPUs of this machine: the settings that docs/performance.md compares with torchtitan. See kUsage.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/benchmarks/program.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/metrics/jsonl.h"
#include "titan/metrics/trace_breakdown.h"

namespace titan {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kUsage =
    R"(usage: llama3_8b --bundle DIR [--out DIR] [--nproc N] [--steps N] [--only NAME]... [--set path=value]...

Trains Llama 3 8B on synthetic tokens in several settings, one after the other, and prints a table: tokens/s of a GPU,
milliseconds of a step, peak memory, where the time of one traced step went, and from the start of the process to its
end after one step. DIR of --bundle is what //experiments/llama3:8b.bundle wrote (--thin or not).
  --out    run directories and logs (llama3_8b)
  --nproc  GPUs (2)
  --steps  of each setting (20); the last one is traced, the first three and the last four do not count
  --only   a setting's name; repeatable
  --set    for all settings
)";

struct Setting {
  const char* name;
  std::vector<std::string> overrides;
  // Tokens/s/GPU; 0 for none. What torchtitan 0.2.2 reaches on two H200s, and what is wanted.
  int peer = 0, bar = 0;
};

const std::vector<Setting>& Settings() {
  static const auto& settings = *[] {
    const std::string none = "activation_checkpoint.mode=none", two = "training.local_batch_size=2";
    const std::string selective = "activation_checkpoint.mode=selective";
    const std::string op = "activation_checkpoint.selective_ac_option=op";
    const std::string elementwise = "activation_checkpoint.selective_ac_option=elementwise";
    const std::string float8 = "quantize.linear.float8.recipe_name=tensorwise";
    const std::string rowwise = "quantize.linear.float8.recipe_name=rowwise";
    const std::string gather = "quantize.linear.float8.enable_fsdp_float8_all_gather=true";
    const std::string tp = "parallelism.tensor_parallel_degree=2", whole = "parallelism.data_parallel_shard_degree=1";
    const std::string overlapped = "parallelism.enable_async_tensor_parallel=true";
    return new std::vector<Setting>{
        {"bf16_none_1", {none}, 9443, 10700},
        {"bf16_none_2", {none, two}, 0, 10700},
        {"bf16_elementwise_1", {selective, elementwise}, 9308, 10600},
        {"bf16_elementwise_2", {selective, elementwise, two}, 9308, 10600},
        {"bf16_offload_2", {selective, elementwise, two, "activation_checkpoint.offload_layers=10"}, 9308, 10600},
        {"bf16_op_2", {selective, op, two}, 9308, 10600},
        {"bf16_full_2", {"activation_checkpoint.mode=full", two}},
        {"float8_none_1", {none, float8, gather}, 11029, 15000},
        {"float8_none_2", {none, float8, gather, two}, 0, 15000},
        {"float8_none_2_bf16_gather", {none, float8, two}, 0, 15000},
        {"float8_op_2", {selective, op, float8, gather, two}, 12362, 15000},
        {"rowwise_none_2", {none, rowwise, two}, 0, 13500},
        {"rowwise_op_2", {selective, op, rowwise, two}, 10710, 13500},
        {"bf16_tp2_none_2", {none, two, tp, whole}, 8698, 10200},
        {"bf16_tp2_overlapped_none_2", {none, two, tp, whole, overlapped}, 8698, 10200},
        {"float8_tp2_none_2", {none, two, tp, whole, float8}},
    };
  }();
  return settings;
}

struct Arguments {
  std::string bundle, out = "llama3_8b";
  int64_t nproc = 2, steps = 20;
  std::vector<std::string> only, overrides;
};

constexpr int64_t kWarmup = 3, kTraced = 4;  // steps: the profiler gets ready in three of the latter

absl::StatusOr<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  FlagParser flags;
  flags.Path("bundle", &arguments.bundle);
  flags.Path("out", &arguments.out);
  flags.Number("nproc", "a number of GPUs", 1, &arguments.nproc);
  flags.Number("steps", "a number of steps", kWarmup + kTraced + 1, &arguments.steps);
  flags.List("only", &arguments.only);
  flags.List("set", &arguments.overrides);
  flags.Require({"bundle"});
  TITAN_RETURN_IF_ERROR(flags.Parse(words));
  arguments.out = UserPath(arguments.out);
  for (const std::string& name : arguments.only) {
    if (std::any_of(Settings().begin(), Settings().end(), [&](const Setting& s) { return name == s.name; })) continue;
    std::string names;
    for (const Setting& setting : Settings()) absl::StrAppend(&names, " ", setting.name);
    return absl::InvalidArgumentError(absl::StrCat("--only: there is no ", name, "; there are", names));
  }
  return arguments;
}

std::vector<std::string> CommandFor(const Arguments& arguments, const std::string& out, int64_t steps,
                                    const std::vector<std::string>& overrides) {
  std::vector<std::string> command = {arguments.bundle + "/run", "--out", out, "--nproc",
                                      absl::StrCat(arguments.nproc)};
  std::vector<std::string> all = {
      absl::StrCat("training.steps=", steps), absl::StrCat("cluster.devices_per_node=", arguments.nproc),
      "lr_scheduler.warmup_steps=2", "metrics.log_freq=1", "metrics.enable_tensorboard=false"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  all.insert(all.end(), arguments.overrides.begin(), arguments.overrides.end());
  for (const std::string& override : all) {
    command.push_back("--set");
    command.push_back(override);
  }
  return command;
}

struct Result {
  double tokens_per_second = 0;                 // of one GPU
  double median = 0, fastest = 0, slowest = 0;  // seconds of a step
  double memory_bytes = 0;
  double first_loss = 0, last_loss = 0;
  TraceBreakdown trace;
};

absl::StatusOr<Result> ReadResult(const Arguments& arguments, const std::string& out) {
  TITAN_ASSIGN_OR_RETURN(const LoggedMetrics metrics, ReadJsonl(out + "/metrics.jsonl"));
  const std::vector<StepMetrics>& steps = metrics.steps;
  if (static_cast<int64_t>(steps.size()) != arguments.steps) {
    return absl::InternalError(absl::StrCat(out, "/metrics.jsonl: ", steps.size(), " steps of ", arguments.steps));
  }
  Result result;
  result.first_loss = steps.front().loss;
  result.last_loss = steps.back().loss;
  std::vector<double> seconds;
  for (int64_t i = 0; i < arguments.steps; ++i) {
    result.memory_bytes = std::max(result.memory_bytes, static_cast<double>(steps[i].memory_bytes));
    if (i >= kWarmup && i < arguments.steps - kTraced) seconds.push_back(steps[i].step_seconds);
  }
  std::sort(seconds.begin(), seconds.end());
  result.median = seconds[seconds.size() / 2];
  result.fastest = seconds.front();
  result.slowest = seconds.back();
  result.tokens_per_second =
      static_cast<double>(steps.back().tokens) / result.median / static_cast<double>(arguments.nproc);
  TITAN_ASSIGN_OR_RETURN(const std::string trace, ReadFile(NewestTrace(out + "/profiling/traces")));
  TITAN_ASSIGN_OR_RETURN(result.trace, BreakDownTrace(trace));
  return result;
}

std::string Row(const Setting& setting, const Result& r) {
  const auto ms = [](double seconds) { return absl::StrFormat("%.0f", seconds * 1e3); };
  const auto kind = [&](KernelKind k) {
    const auto found = r.trace.by_kind.find(k);
    return ms(found == r.trace.by_kind.end() ? 0 : found->second);
  };
  const auto wanted = [](int value) { return value == 0 ? std::string() : absl::StrCat(value); };
  return absl::StrCat("| ", setting.name, " | ", absl::StrFormat("%.0f", r.tokens_per_second), " | ",
                      wanted(setting.peer), " | ", wanted(setting.bar), " | ", ms(r.median), " (", ms(r.fastest),
                      " to ", ms(r.slowest), ") | ", absl::StrFormat("%.1f", r.memory_bytes / (1 << 30)), " | ",
                      kind(KernelKind::kGemm), " | ", kind(KernelKind::kAttention), " | ", kind(KernelKind::kOther),
                      " | ", ms(r.trace.exposed()), " | ", ms(r.trace.idle), " | ",
                      absl::StrFormat("%.4f, %.4f", r.first_loss, r.last_loss), " |");
}

absl::Status RunSetting(const Arguments& arguments, const Setting& setting) {
  const std::string out = absl::StrCat(arguments.out, "/", setting.name);
  std::filesystem::remove_all(out);
  std::vector<std::string> overrides = setting.overrides;
  overrides.push_back("profiling.enable_profiling=true");
  overrides.push_back(absl::StrCat("profiling.profile_freq=", arguments.steps));
  TITAN_ASSIGN_OR_RETURN(const int code,
                         RunProgram(CommandFor(arguments, out, arguments.steps, overrides), out + ".log"));
  if (code != 0) {
    std::cout << "| " << setting.name << " | exit code " << code << ", see " << out << ".log |" << std::endl;
    return absl::OkStatus();
  }
  TITAN_ASSIGN_OR_RETURN(const Result result, ReadResult(arguments, out));
  std::cout << Row(setting, result) << std::endl;
  return absl::OkStatus();
}

// From nothing to the end of the process, of which one step is a part.
absl::Status RunStart(const Arguments& arguments) {
  const std::string out = arguments.out + "/start";
  std::filesystem::remove_all(out);
  const auto start = Clock::now();
  TITAN_ASSIGN_OR_RETURN(const int code,
                         RunProgram(CommandFor(arguments, out, 1, {"activation_checkpoint.mode=none"}), out + ".log"));
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  std::cout << "\nstart of the process to its end after one step: " << std::fixed << std::setprecision(1) << seconds
            << " s" << (code == 0 ? "" : absl::StrCat(" (exit code ", code, ")")) << std::endl;
  return absl::OkStatus();
}

absl::Status Run(const std::vector<std::string>& words) {
  TITAN_ASSIGN_OR_RETURN(const Arguments arguments, Parse(words));
  if (!std::filesystem::exists(arguments.bundle + "/run")) {
    return absl::NotFoundError(absl::StrCat(
        arguments.bundle,
        " is no bundle; ./bazelw run --config=cuda //experiments/llama3:8b.bundle -- --thin --out DIR writes one"));
  }
  TITAN_RETURN_IF_ERROR(MakeDirectories(arguments.out));
  std::cout
      << "| setting | tokens/s/GPU | torchtitan | wanted | ms a step | GiB | products | attention | other kernels "
         "| exposed communication | idle | loss |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
      << std::endl;
  for (const Setting& setting : Settings()) {
    const std::vector<std::string>& only = arguments.only;
    if (!only.empty() && std::find(only.begin(), only.end(), setting.name) == only.end()) continue;
    TITAN_RETURN_IF_ERROR(RunSetting(arguments, setting));
  }
  return RunStart(arguments);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("llama3_8b", titan::kUsage, argc, argv, titan::Run); }
