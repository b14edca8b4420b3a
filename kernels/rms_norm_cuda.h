// The CUDA kernels behind kernels/rms_norm.h, whose formulas they follow. All tensors are contiguous.

#ifndef TITAN_KERNELS_RMS_NORM_CUDA_H_
#define TITAN_KERNELS_RMS_NORM_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"

namespace titan::cuda {

// Rows of the partial sums that RmsNormBackward wants memory for. Fixed, so that a gradient's last bit does not depend
// on the GPU.
inline constexpr int64_t kRmsNormPartials = 264;

struct RmsNormForwardArguments {
  Element element;
  int64_t rows, dim;
  const void* x;         // (rows, dim)
  const void* residual;  // (rows, dim), added to x first; or null
  const void* weight;    // (dim)
  double eps;
  void* sum;          // (rows, dim): x + residual; null without residual
  void* y;            // (rows, dim)
  void* inverse_rms;  // (rows), fp32 (fp64 for fp64)
};
void RmsNormForward(const RmsNormForwardArguments& arguments, Stream stream);

struct RmsNormBackwardArguments {
  Element element;
  int64_t rows, dim;
  const void* x;  // (rows, dim): what was normalised
  const void* weight;
  const void* inverse_rms;
  const void* dy;    // (rows, dim)
  const void* dsum;  // (rows, dim), added to dx; or null
  void* dx;          // (rows, dim)
  void* partials;    // (kRmsNormPartials, dim), fp32 (fp64): overwritten
  void* dweight;     // (dim)
};
// One launch for dx and one that adds up the weight's gradient, in a fixed order.
void RmsNormBackward(const RmsNormBackwardArguments& arguments, Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_RMS_NORM_CUDA_H_
