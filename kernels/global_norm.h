// The 2-norm of many tensors as if they were one long vector: what gradient clipping divides by.
//
//   const double norm = GlobalNorm(gradients).item<double>();
//
// Squares are summed in fp64, in pieces of a fixed size: the result is the same for any number of threads, and every
// time. A norm that is not finite says that some element is not; FirstNonFinite finds the tensor.

#ifndef TITAN_KERNELS_GLOBAL_NORM_H_
#define TITAN_KERNELS_GLOBAL_NORM_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <optional>

namespace titan {

// tensors: fp32, fp64 or bf16 of one dtype, contiguous, on one device -> scalar, fp64, on the same device (not waited
// for).
at::Tensor GlobalNorm(at::TensorList tensors);

// Index of the first tensor that holds an infinity or NaN. Slow (it waits for the device after every tensor): for
// error messages.
std::optional<size_t> FirstNonFinite(at::TensorList tensors);

}  // namespace titan

#endif  // TITAN_KERNELS_GLOBAL_NORM_H_
