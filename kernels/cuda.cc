#include "kernels/cuda.h"

#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace titan::cuda {

void CheckDevice(const at::Tensor& tensor, const char* op) {
  TORCH_CHECK(tensor.is_cpu() || RunsKernels(tensor), op, ": no kernel for ", tensor.device(),
              "; for an NVIDIA GPU build with --config=cuda");
}

Element ElementOf(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return Element::kFloat;
    case at::kDouble:
      return Element::kDouble;
    case at::kBFloat16:
      return Element::kBFloat16;
    default:
      TORCH_CHECK(false, "no CUDA kernel for ", tensor.scalar_type());
  }
}

Stream CurrentStream(const at::Tensor& tensor) {
  const c10::impl::VirtualGuardImpl device(tensor.device().type());
  return static_cast<Stream>(device.getStream(tensor.device()).native_handle());
}

}  // namespace titan::cuda
