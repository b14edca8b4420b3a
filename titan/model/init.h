// Initial values of parameters. Element i of a parameter is a function of (seed, parameter name, i) and the parameter's
// distribution alone, so that every shard of every parallel layout, drawn where it lives, is a piece of the same model.
//
//   std::vector<float> shard(end - begin);
//   InitParameter(spec, /*seed=*/42, begin, end, shard.data());
//
// How: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with the seed as key and
// (i / 4, FNV-1a-64 of the name) as counter gives four 32-bit words; word i % 4 is the element's uniform number
// u = (word + 1/2) / 2^32; a normal value is the inverse distribution function of u (Wichura's AS 241, Applied
// Statistics 37, 1988). Everything is computed in float64 with + - * / and sqrt, uncontracted, and rounded to float32
// once: the bits are the same on every machine, and every GPU, that has IEEE arithmetic.

#ifndef TITAN_MODEL_INIT_H_
#define TITAN_MODEL_INIT_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "titan/plan/model_spec.h"

namespace titan {

// Elements [begin, end) of the parameter, flattened in row-major order, into out[0 .. end - begin). Uses all threads.
void InitParameter(const ParameterSpec& parameter, uint64_t seed, int64_t begin, int64_t end, float* out);

// The whole parameter: a float32 tensor of its shape, drawn by the device it is for if that is a GPU.
at::Tensor InitialValue(const ParameterSpec& parameter, uint64_t seed, at::Device device = at::kCPU);

// What it is made of, for tests.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// z with P(|Z| < |z|) = 2 |q| and the sign of q, for standard normal Z and |q| <= 1/2 - 2^-34: the normal
// distribution's quantile at 1/2 + q, exactly odd in q.
double NormalQuantile(double q);

// P(|Z| < x) for standard normal Z and x >= 0.
double CentralProbability(double x);

}  // namespace titan

#endif  // TITAN_MODEL_INIT_H_
