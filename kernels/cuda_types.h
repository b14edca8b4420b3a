// What the host code of a CUDA kernel is told: the element type of its tensors and the stream. Free of LibTorch and of
// CUDA's headers, so that .cu files compile in seconds and CPU builds can see the declarations.

#ifndef TITAN_KERNELS_CUDA_TYPES_H_
#define TITAN_KERNELS_CUDA_TYPES_H_

struct CUstream_st;

namespace titan::cuda {

// cudaStream_t.
using Stream = CUstream_st*;

enum class Element { kFloat, kDouble, kBFloat16 };

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_CUDA_TYPES_H_
