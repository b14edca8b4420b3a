// Replays a recorded training run with the trainer's own code. See kUsage.

#include <string>
#include <vector>

#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/checkpoint/tensors.h"
#include "tools/train_trace_replay.h"

namespace titan {
namespace {

constexpr char kUsage[] =
    R"(usage: train_trace --hf_dir DIR --trace DIR --out FILE [--dtype fp32|fp64] [--states]

Trains the Hugging Face model in --hf_dir on the batches and under the settings of --trace, on the CPU.
  --trace   folder of batches.safetensors and trace.json
  --out     safetensors with loss, grad_norm, lr (F64, one per step) and param.<Hugging Face name> after the last step
  --dtype   of parameters, optimizer state and computation; fp32 if not given
  --states  also exp_avg.<name> and exp_avg_sq.<name>)";

absl::Status Run(const std::vector<std::string>& arguments) {
  std::string hf_dir, trace, out;
  ReplayOptions options;
  FlagParser flags;
  flags.Path("hf_dir", &hf_dir);
  flags.Path("trace", &trace);
  flags.Path("out", &out);
  flags.Choice("dtype", {{"fp32", false}, {"fp64", true}}, &options.fp64);
  flags.Switch("states", &options.states);
  flags.Require({"hf_dir", "trace", "out"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));

  TITAN_ASSIGN_OR_RETURN(const NamedTensors outputs, ReplayTrace(hf_dir, trace, options));
  return WriteTensors(out, outputs);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("train_trace", titan::kUsage, argc, argv, titan::Run); }
