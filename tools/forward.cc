// Forward and backward pass of a Hugging Face model on given tokens, with the trainer's own code. See kUsage.

#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/tensors.h"
#include "tools/forward_hf.h"

namespace titan {
namespace {

constexpr std::string_view kUsage =
    R"(usage: forward --hf_dir DIR --inputs FILE --out FILE [--dtype fp32|fp64] [--backward] [--packed] [--hidden]

Runs the model in DIR (config.json and safetensors) on the CPU.
  --inputs    safetensors with input_ids and labels (I64 [B, S]; labels already shifted, -100 for none);
              optional position_ids (they restart at 0 with every document) or document_ids (they change)
  --out       safetensors with logits, loss (mean over valid labels) and what the flags below add
  --dtype     of weights and computation; fp32 if not given
  --backward  also grad.<Hugging Face parameter name>, the gradients of loss
  --packed    documents are given by packed.document_ids or packed.position_ids in the inputs
  --hidden    also hidden.0 (embeddings) and hidden.i (output of layer i - 1)
)";

struct Arguments {
  std::string hf_dir, inputs, out;
  ForwardOptions options;
};

absl::Status ParseDtype(const std::string& text, at::ScalarType& dtype) {
  if (text != "fp32" && text != "fp64") {
    return absl::InvalidArgumentError(absl::StrCat("--dtype is \"", text, "\"; use fp32 or fp64"));
  }
  dtype = text == "fp32" ? at::kFloat : at::kDouble;
  return absl::OkStatus();
}

// Accepts "--flag value" and "--flag=value".
absl::StatusOr<Arguments> Parse(std::vector<std::string> words) {
  Arguments arguments;
  std::string dtype = "fp32";
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--backward") {
      arguments.options.backward = true;
    } else if (words[i] == "--packed") {
      arguments.options.packed = true;
    } else if (words[i] == "--hidden") {
      arguments.options.hidden = true;
    } else {
      const size_t equals = words[i].find('=');
      const std::string flag = words[i].substr(0, equals);
      std::string* value = flag == "--hf_dir"   ? &arguments.hf_dir
                           : flag == "--inputs" ? &arguments.inputs
                           : flag == "--out"    ? &arguments.out
                           : flag == "--dtype"  ? &dtype
                                                : nullptr;
      if (value == nullptr) return absl::InvalidArgumentError(absl::StrCat("unknown argument \"", words[i], "\""));
      if (equals == std::string::npos && i + 1 == words.size()) {
        return absl::InvalidArgumentError(absl::StrCat(flag, " needs a value"));
      }
      *value = equals == std::string::npos ? words[++i] : words[i].substr(equals + 1);
    }
  }
  for (const auto& [flag, value] :
       {std::pair{"--hf_dir", &arguments.hf_dir}, {"--inputs", &arguments.inputs}, {"--out", &arguments.out}}) {
    if (value->empty()) return absl::InvalidArgumentError(absl::StrCat(flag, " is missing"));
  }
  TITAN_RETURN_IF_ERROR(ParseDtype(dtype, arguments.options.dtype));
  return arguments;
}

absl::Status Run(const Arguments& arguments) {
  TITAN_ASSIGN_OR_RETURN(const NamedTensors inputs, ReadTensors(UserPath(arguments.inputs)));
  TITAN_ASSIGN_OR_RETURN(const NamedTensors outputs, ForwardHf(UserPath(arguments.hf_dir), inputs, arguments.options));
  return WriteTensors(UserPath(arguments.out), outputs);
}

int Main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty() || words[0] == "--help" || words[0] == "-h") {
    std::cout << kUsage;
    return words.empty() ? 2 : 0;
  }
  const absl::StatusOr<Arguments> arguments = Parse(words);
  if (!arguments.ok()) {
    std::cerr << "forward: " << arguments.status().message() << "\n" << kUsage;
    return 2;
  }
  const absl::Status status = Run(*arguments);
  if (!status.ok()) {
    std::cerr << "forward: " << status.message() << "\n";
    return absl::IsInternal(status) ? 1 : 2;
  }
  return 0;
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  try {
    return titan::Main(argc, argv);
  } catch (const std::exception& error) {  // LibTorch reports by exceptions, out of memory for example
    std::cerr << "forward: " << error.what() << "\n";
    return 1;
  }
}
