// The CUDA kernel behind kernels/rope.h.

#ifndef TITAN_KERNELS_ROPE_CUDA_H_
#define TITAN_KERNELS_ROPE_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"

namespace titan::cuda {

struct RopeArguments {
  Element element;
  int64_t batch, sequence, heads, dim;              // of x and y, (B, S, H, d)
  int64_t batch_stride, token_stride, head_stride;  // of x, in elements; d is contiguous
  const void* x;
  const void* cos;  // (B, S, d/2), contiguous, fp32 (fp64 for fp64)
  const void* sin;
  bool inverse;  // rotates back: the gradient
  void* y;       // contiguous
};
void Rope(const RopeArguments& arguments, Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_ROPE_CUDA_H_
