// The CUDA kernel behind titan/model/init.h.

#ifndef TITAN_MODEL_INIT_CUDA_H_
#define TITAN_MODEL_INIT_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"
#include "titan/model/init_values.h"

namespace titan::cuda {

// Elements [0, size) of the parameter whose name has the hash `name`; out is aligned to 16 bytes.
void DrawValues(uint64_t seed, uint64_t name, const Scaling& scaling, int64_t size, float* out, Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_MODEL_INIT_CUDA_H_
