// config.json of a Hugging Face folder. No LibTorch here.

#ifndef TITAN_CHECKPOINT_HF_CONFIG_H_
#define TITAN_CHECKPOINT_HF_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace titan::config {
class Model;
}

namespace titan {

// The model that a config.json describes, every field set as the strict configuration reader leaves it. Reads the
// published form (rope_theta, rope_scaling) and that of transformers 5 (rope_parameters); absent keys have the
// library's defaults. InvalidArgument with all errors, one per line: an architecture or feature that is not built yet,
// a missing key, a wrong type, a value out of range.
absl::StatusOr<config::Model> ModelFromHfConfig(std::string_view json);

// The other way, in the published form, which every version of the library reads. `dtype`: "float32", "bfloat16", ...
// `max_position_embeddings` is information for users of the model; it does not change what the model computes.
absl::StatusOr<std::string> HfConfigOf(const config::Model& model, std::string_view dtype,
                                       int64_t max_position_embeddings);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_HF_CONFIG_H_
