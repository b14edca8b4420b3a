// The angles of rotary position embedding.
//
//   const std::vector<double> frequencies = RopeFrequencies(model.rope(), model.head_dim());  // radians per position

#ifndef TITAN_MODEL_ROPE_FREQUENCIES_H_
#define TITAN_MODEL_ROPE_FREQUENCIES_H_

#include <cstdint>
#include <vector>

namespace titan::config {
class Rope;
}

namespace titan {

// head_dim / 2 values: f_i = theta^(-2i / head_dim), and with scaling type llama3 as Llama 3.1 changes them: a
// wavelength 2 pi / f longer than original_max_seq_len / low_freq_factor becomes f / scaling_factor, one shorter than
// original_max_seq_len / high_freq_factor stays, those between are interpolated (transformers'
// modeling_rope_utils.py, `_compute_llama3_parameters`). Computed in float64, but with scaling in float32, as there.
std::vector<double> RopeFrequencies(const config::Rope& rope, int64_t head_dim);

}  // namespace titan

#endif  // TITAN_MODEL_ROPE_FREQUENCIES_H_
