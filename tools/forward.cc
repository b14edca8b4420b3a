// Forward and backward pass of a Hugging Face model on given tokens, with the trainer's own code. See kUsage.

#include <string>
#include <vector>

#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/base/tool_main.h"
#include "titan/checkpoint/tensors.h"
#include "tools/forward_hf.h"

namespace titan {
namespace {

constexpr char kUsage[] =
    R"(usage: forward --hf_dir DIR --inputs FILE --out FILE [--dtype fp32|fp64] [--backward] [--packed] [--hidden]

Runs the model in DIR (config.json and safetensors) on the CPU.
  --inputs    safetensors with input_ids and labels (I64 [B, S]; labels already shifted, -100 for none);
              optional position_ids (they restart at 0 with every document) or document_ids (they change)
  --out       safetensors with logits, loss (mean over valid labels) and what the flags below add
  --dtype     of weights and computation; fp32 if not given
  --backward  also grad.<Hugging Face parameter name>, the gradients of loss
  --packed    documents are given by packed.document_ids or packed.position_ids in the inputs
  --hidden    also hidden.0 (embeddings) and hidden.i (output of layer i - 1))";

absl::Status Run(const std::vector<std::string>& arguments) {
  std::string hf_dir, inputs_file, out;
  ForwardOptions options;
  FlagParser flags;
  flags.Path("hf_dir", &hf_dir);
  flags.Path("inputs", &inputs_file);
  flags.Path("out", &out);
  flags.Choice("dtype", {{"fp32", at::kFloat}, {"fp64", at::kDouble}}, &options.dtype);
  flags.Switch("backward", &options.backward);
  flags.Switch("packed", &options.packed);
  flags.Switch("hidden", &options.hidden);
  flags.Require({"hf_dir", "inputs", "out"});
  TITAN_RETURN_IF_ERROR(flags.Parse(arguments));

  TITAN_ASSIGN_OR_RETURN(const NamedTensors inputs, ReadTensors(inputs_file));
  TITAN_ASSIGN_OR_RETURN(const NamedTensors outputs, ForwardHf(hf_dir, inputs, options));
  return WriteTensors(out, outputs);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::ToolMain("forward", titan::kUsage, argc, argv, titan::Run); }
