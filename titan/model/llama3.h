// Llama 3 (arXiv:2407.21783): pre-norm layers of grouped-query attention with rotary positions and a SwiGLU
// feed-forward network, RMSNorm, no biases. Numerics and weight layout are Hugging Face's LlamaForCausalLM (rotate-half
// RoPE).
//
//   std::unique_ptr<Model> model =
//       MakeLlama3(experiment.model(), experiment.quantize(), BuildModelSpec(experiment.model()).value());

#ifndef TITAN_MODEL_LLAMA3_H_
#define TITAN_MODEL_LLAMA3_H_

#include <memory>

#include "titan/model/model.h"
#include "titan/plan/model_spec.h"

namespace titan {

// `spec` is BuildModelSpec(config).
std::unique_ptr<Model> MakeLlama3(const config::Model& config, const config::Quantize& quantize, ModelSpec spec);

}  // namespace titan

#endif  // TITAN_MODEL_LLAMA3_H_
