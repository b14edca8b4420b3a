// The CUDA kernels behind kernels/global_norm.h.

#ifndef TITAN_KERNELS_GLOBAL_NORM_CUDA_H_
#define TITAN_KERNELS_GLOBAL_NORM_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"

namespace titan::cuda {

struct NormTensor {
  const void* data;
  int64_t size;
};

// Elements that are summed by themselves. Fixed, so that the norm's last bit does not depend on the GPU.
inline constexpr int64_t kNormChunk = 32 * 1024;

// Partial sums that a tensor of `size` elements makes.
constexpr int64_t NumNormPartials(int64_t size) { return (size + kNormChunk - 1) / kNormChunk; }

// norm (scalar) = the root of the sum of the squares of all elements of `count` tensors of one element type. Squares
// and sums are fp64. partials (sum of NumNormPartials over the tensors): overwritten, then added in a fixed order. Of
// tensors that are aligned differently the last bit may differ.
// One launch for a few hundred tensors, whatever their sizes, and one for the sum.
void GlobalNorm(Element element, const NormTensor* tensors, int64_t count, double* partials, double* norm,
                Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_GLOBAL_NORM_CUDA_H_
