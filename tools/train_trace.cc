// Replays a recorded training run with the trainer's own code. See kUsage.

#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "tools/train_trace_replay.h"

namespace titan {
namespace {

constexpr std::string_view kUsage =
    R"(usage: train_trace --hf_dir DIR --trace DIR --out FILE [--dtype fp32|fp64] [--states]

Trains the Hugging Face model in --hf_dir on the batches and under the settings of --trace, on the CPU.
  --trace   folder of batches.safetensors and trace.json
  --out     safetensors with loss, grad_norm, lr (F64, one per step) and param.<Hugging Face name> after the last step
  --dtype   of parameters, optimizer state and computation; fp32 if not given
  --states  also exp_avg.<name> and exp_avg_sq.<name>
)";

struct Arguments {
  std::string hf_dir, trace, out;
  ReplayOptions options;
};

// Accepts "--flag value" and "--flag=value".
absl::StatusOr<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  std::string dtype = "fp32";
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--states") {
      arguments.options.states = true;
      continue;
    }
    const size_t equals = words[i].find('=');
    const std::string flag = words[i].substr(0, equals);
    std::string* value = flag == "--hf_dir"  ? &arguments.hf_dir
                         : flag == "--trace" ? &arguments.trace
                         : flag == "--out"   ? &arguments.out
                         : flag == "--dtype" ? &dtype
                                             : nullptr;
    if (value == nullptr) return absl::InvalidArgumentError(absl::StrCat("unknown argument \"", words[i], "\""));
    if (equals == std::string::npos && i + 1 == words.size()) {
      return absl::InvalidArgumentError(absl::StrCat(flag, " needs a value"));
    }
    *value = equals == std::string::npos ? words[++i] : words[i].substr(equals + 1);
  }
  for (const auto& [flag, value] :
       {std::pair{"--hf_dir", &arguments.hf_dir}, {"--trace", &arguments.trace}, {"--out", &arguments.out}}) {
    if (value->empty()) return absl::InvalidArgumentError(absl::StrCat(flag, " is missing"));
  }
  if (dtype != "fp32" && dtype != "fp64") {
    return absl::InvalidArgumentError(absl::StrCat("--dtype is \"", dtype, "\"; use fp32 or fp64"));
  }
  arguments.options.fp64 = dtype == "fp64";
  return arguments;
}

absl::Status Run(const Arguments& arguments) {
  TITAN_ASSIGN_OR_RETURN(const NamedTensors out,
                         ReplayTrace(UserPath(arguments.hf_dir), UserPath(arguments.trace), arguments.options));
  return WriteTensors(UserPath(arguments.out), out);
}

int Main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty() || words[0] == "--help" || words[0] == "-h") {
    std::cout << kUsage;
    return words.empty() ? 2 : 0;
  }
  const absl::StatusOr<Arguments> arguments = Parse(words);
  if (!arguments.ok()) {
    std::cerr << "train_trace: " << arguments.status().message() << "\n" << kUsage;
    return 2;
  }
  const absl::Status status = Run(*arguments);
  if (!status.ok()) {
    std::cerr << "train_trace: " << status.message() << "\n";
    return absl::IsInternal(status) ? 1 : 2;
  }
  return 0;
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  try {
    return titan::Main(argc, argv);
  } catch (const std::exception& error) {  // LibTorch reports by exceptions; a malformed trace.json, too
    std::cerr << "train_trace: " << error.what() << "\n";
    return 1;
  }
}
