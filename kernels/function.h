// Records an operator's own backward. The one file behind it includes LibTorch's autograd, which would cost every
// operator 15 seconds of compile time.
//
//   at::Tensor Square(const at::Tensor& x) {
//     return ApplyFunction(
//         {x}, [](const TensorVector& in) -> Recorded { return {.outputs = {in[0] * in[0]}, .saved = {in[0]}}; },
//         [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
//           return {2 * saved[0] * gradients[0]};
//         })[0];
//   }

#ifndef TITAN_KERNELS_FUNCTION_H_
#define TITAN_KERNELS_FUNCTION_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace titan {

using TensorVector = std::vector<at::Tensor>;

struct Recorded {
  TensorVector outputs;
  TensorVector saved;  // what backward needs of the inputs, the outputs and intermediate results
};

using FunctionForward = std::function<Recorded(const TensorVector& inputs)>;

// Returns the gradient of each input, undefined where there is none. `gradients` has a tensor for each output, of zeros
// where nothing depends on it.
using FunctionBackward = std::function<TensorVector(const TensorVector& saved, const TensorVector& gradients)>;

// Runs `forward` at once, unrecorded, and returns its outputs. `backward` is kept only if gradients are enabled and one
// of the inputs, all of which are defined, requires one. Inputs and outputs reach it through `saved`: one that it
// captured would keep the graph alive for ever.
TensorVector ApplyFunction(const TensorVector& inputs, const FunctionForward& forward,
                           const FunctionBackward& backward);

}  // namespace titan

#endif  // TITAN_KERNELS_FUNCTION_H_
