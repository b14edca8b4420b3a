// The CUDA kernels behind kernels/swiglu.h. `size` elements, contiguous.

#ifndef TITAN_KERNELS_SWIGLU_CUDA_H_
#define TITAN_KERNELS_SWIGLU_CUDA_H_

#include <cstdint>

#include "kernels/cuda_types.h"

namespace titan::cuda {

// out = silu(gate) up
void SwiGluForward(Element element, const void* gate, const void* up, int64_t size, void* out, Stream stream);

// The gradients of gate and up from that of out.
void SwiGluBackward(Element element, const void* gate, const void* up, const void* dout, int64_t size, void* dgate,
                    void* dup, Stream stream);

}  // namespace titan::cuda

#endif  // TITAN_KERNELS_SWIGLU_CUDA_H_
