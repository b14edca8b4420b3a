// The CUDA kernel behind kernels/adamw.h, whose formula it follows, and the factors of that formula.

#ifndef TITAN_KERNELS_ADAMW_CUDA_H_
#define TITAN_KERNELS_ADAMW_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"

namespace titan::cuda {

// What the formula multiplies by, the same for all elements: computed in fp64, rounded once to the elements' type.
template <typename T>
struct AdamWFactors {
  T gradient_scale;
  T decay;  // 1 - lr weight_decay
  T one_minus_beta1;
  T beta2;
  T one_minus_beta2;
  T step_size;            // lr / (1 - beta1^t)
  T inverse_correction2;  // 1 / sqrt(1 - beta2^t)
  T eps;

  template <typename U>
  AdamWFactors<U> To() const {
    return {static_cast<U>(gradient_scale),      static_cast<U>(decay),
            static_cast<U>(one_minus_beta1),     static_cast<U>(beta2),
            static_cast<U>(one_minus_beta2),     static_cast<U>(step_size),
            static_cast<U>(inverse_correction2), static_cast<U>(eps)};
  }
};

// `size` elements each.
struct AdamWTensor {
  void* parameter;
  const void* gradient;
  void* exp_avg;
  void* exp_avg_sq;
  void* copy;  // bf16: the updated parameter, rounded; or null
  int64_t size;
};

// Updates `count` tensors of one element type, fp32 or fp64, in place; gradients are only read. The averages are of the
// same type, or bf16 with fp32. One launch for a few hundred tensors, whatever their sizes. Elementwise, hence
// repeatable.
void AdamWStep(Element element, Element average, const AdamWTensor* tensors, int64_t count,
               const AdamWFactors<double>& factors, Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_ADAMW_CUDA_H_
