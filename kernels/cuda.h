// Where an operator's code for the CPU and its CUDA kernels part.
//
//   if (cuda::RunsKernels(x)) {
//     if constexpr (cuda::kHasKernels) {  // without --config=cuda there is nothing to link
//       cuda::SwiGluForward(cuda::ElementOf(x), ..., cuda::CurrentStream(x));
//     }
//   }

#ifndef TITAN_KERNELS_CUDA_H_
#define TITAN_KERNELS_CUDA_H_

#include <ATen/core/Tensor.h>

#include "kernels/cuda_types.h"

namespace titan::cuda {

#ifdef TITAN_CUDA
inline constexpr bool kHasKernels = true;
#else
inline constexpr bool kHasKernels = false;
#endif

// Whether our kernels are there for tensors like this one: on a CUDA device, in a build with --config=cuda.
inline bool RunsKernels(const at::Tensor& tensor) { return kHasKernels && tensor.is_cuda(); }

// Throws c10::Error, with the operator's name, if there is code of ours neither for the CPU nor for CUDA.
void CheckDevice(const at::Tensor& tensor, const char* op);

// Throws c10::Error for other dtypes than fp32, fp64 and bf16.
Element ElementOf(const at::Tensor& tensor);

// The stream that ATen uses now on the tensor's device. Kernels are launched on it and not waited for.
Stream CurrentStream(const at::Tensor& tensor);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_CUDA_H_
