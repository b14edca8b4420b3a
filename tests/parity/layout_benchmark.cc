// What a layout costs on this machine: one process, then each layout of 8 processes over Gloo. See kUsage.

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "tests/parity/layouts.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/parallel/multi_process_test.h"
#include "titan/train/allocator.h"
#include "titan/train/device.h"
#include "titan/train/trainer.h"

namespace titan {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kUsage[] = R"(usage: layout_benchmark --steps N [--seq_len N] [NAME...]

Trains the debug model (6.2 M parameters, fp32, 8 rows a step) in every layout, each rank a process with one thread, and
prints a table: tokens per second of the median step, what the rank that sends most sends in a step, and the peak
resident memory of the rank that has most, as it is and beyond what a process has before there is a model.
  --steps    measured steps of each layout, after one that is not
  --seq_len  tokens of a row (128)
  NAME...    only these layouts)";

constexpr int64_t kRows = 8;

// The debug model.
constexpr const char* kExperiment = R"({
  "model": {"name": "llama3", "dim": 256, "n_layers": 6, "n_heads": 16, "n_kv_heads": 16, "ffn_hidden_dim": 768,
            "vocab_size": 2048, "rope": {"theta": 500000}},
  "data": {"sources": [{"corpus": "synthetic"}]},
  "training": {"local_batch_size": 8, "global_batch_size": 8, "steps": 1000, "mixed_precision_param": "float32"},
  "optimizer": {"lr": 8e-4}
})";

struct Arguments {
  int64_t steps = 3;
  int64_t seq_len = 128;
  std::vector<std::string> names;
};

// What one rank has measured.
struct Measurement {
  std::vector<double> step_seconds;
  std::map<std::string, int64_t> bytes_sent;  // by axis, in the last step
  int64_t memory_before = 0;                  // without a model
  int64_t memory_peak = 0;
};

Batch MakeBatch(int64_t seq_len, int64_t step) {
  Batch batch{.rows = kRows, .seq_len = seq_len, .tokens = {}, .labels = {}, .positions = {}};
  for (int64_t i = 0; i < kRows * seq_len; ++i) {
    batch.tokens.push_back((i * i + step) % 2048);
    batch.labels.push_back(((i + 1) * (i + 1) + step) % 2048);
    batch.positions.push_back(i % seq_len);
  }
  return batch;
}

absl::StatusOr<Measurement> Measure(const Layout& layout, const Arguments& arguments, Transport* transport) {
  std::vector<std::string> overrides = layout.overrides;
  overrides.push_back(absl::StrCat("training.seq_len=", arguments.seq_len));
  Measurement result;
  result.memory_before = PeakMemoryBytes(at::kCPU);
  TITAN_ASSIGN_OR_RETURN(const config::Experiment experiment,
                         ReadExperiment(kExperiment, {.source_name = layout.name, .overrides = overrides}));
  std::unique_ptr<ParallelGroups> groups;
  if (transport != nullptr) {
    TITAN_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(experiment.parallelism(), layout.world_size));
    TITAN_ASSIGN_OR_RETURN(groups, ParallelGroups::Create(*transport, mesh));
  }
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(experiment, {.groups = groups.get()}));
  for (int64_t step = 0; step <= arguments.steps; ++step) {
    const Batch batch = MakeBatch(arguments.seq_len, step);
    const Traffic before = trainer->traffic();
    const auto begin = Clock::now();
    TITAN_RETURN_IF_ERROR(trainer->Step(batch).status());
    if (step > 0) result.step_seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    result.bytes_sent = BytesByAxis(Since(before, trainer->traffic()));
  }
  result.memory_peak = PeakMemoryBytes(at::kCPU);
  return result;
}

absl::Status RunRank(const Layout& layout, const Arguments& arguments, const TransportOptions& options,
                     const std::string& file) {
  KeepFreedMemory();  // as the trainer does
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<Transport> transport, ConnectTransport(options));
  TITAN_ASSIGN_OR_RETURN(const Measurement measured,
                         Measure(layout, arguments, layout.world_size > 1 ? transport.get() : nullptr));
  const nlohmann::json json = {{"step_seconds", measured.step_seconds},
                               {"bytes_sent", measured.bytes_sent},
                               {"memory_before", measured.memory_before},
                               {"memory_peak", measured.memory_peak}};
  return WriteFileAtomically(file, json.dump());
}

// One line of the table.
absl::Status RunLayout(const Layout& layout, const Arguments& arguments, const std::string& directory) {
  RankProcesses ranks(layout.world_size, [&](const TransportOptions& options) {
    const absl::Status status = RunRank(layout, arguments, options, absl::StrCat(directory, "/", options.rank));
    if (!status.ok()) throw CommunicationError(std::string(status.message()));
  });
  std::vector<double> seconds;
  std::map<std::string, int64_t> sent;
  int64_t most_sent = 0, memory = 0, model = 0;
  for (int64_t rank = 0; rank < layout.world_size; ++rank) {
    if (ranks.Wait(rank) != 0) {
      return absl::InternalError(absl::StrCat(layout.name, ": rank ", rank, ": ", ranks.Error(rank)));
    }
    TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(absl::StrCat(directory, "/", rank)));
    const nlohmann::json json = nlohmann::json::parse(text);
    if (rank == 0) seconds = json["step_seconds"].get<std::vector<double>>();
    int64_t total = 0;
    for (const auto& [axis, bytes] : json["bytes_sent"].items()) total += bytes.get<int64_t>();
    if (total > most_sent) {
      most_sent = total;
      sent = json["bytes_sent"].get<std::map<std::string, int64_t>>();
    }
    const int64_t peak = json["memory_peak"].get<int64_t>();
    memory = std::max(memory, peak);
    model = std::max(model, peak - json["memory_before"].get<int64_t>());
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const auto mib = [](int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  std::cout << std::fixed << std::setprecision(0) << "| `" << layout.name << "` | "
            << static_cast<double>(kRows * arguments.seq_len) / median << " | " << most_sent << " | "
            << absl::StrJoin(sent, ", ", absl::PairFormatter(" ")) << " | " << mib(memory) << " | " << mib(model)
            << " |" << std::endl;
  return absl::OkStatus();
}

absl::Status Run(const std::vector<std::string>& words) {
  Arguments arguments;
  FlagParser flags;
  flags.Number("steps", "a number of steps", 1, &arguments.steps);
  flags.Number("seq_len", "a number of tokens", 16, &arguments.seq_len);
  flags.Positional(&arguments.names);
  TITAN_RETURN_IF_ERROR(flags.Parse(words));
  const std::string directory = std::filesystem::temp_directory_path() / "layout_benchmark";
  TITAN_RETURN_IF_ERROR(MakeDirectories(directory));
  std::cout << "| layout | tokens/s | bytes sent by a rank in a step | of them | peak MiB of a rank | for the model |\n"
               "|---|---|---|---|---|---|\n";
  for (const Layout& layout : BenchmarkLayouts()) {
    const auto& names = arguments.names;
    if (!names.empty() && std::find(names.begin(), names.end(), layout.name) == names.end()) continue;
    TITAN_RETURN_IF_ERROR(RunLayout(layout, arguments, directory));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("layout_benchmark", titan::kUsage, argc, argv, titan::Run); }
