#include "kernels/function.h"

#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace titan {
namespace {

using torch::autograd::AutogradContext;

// The form in which a context keeps a C++ value.
struct BackwardHolder : torch::CustomClassHolder {
  explicit BackwardHolder(FunctionBackward backward) : backward(std::move(backward)) {}
  FunctionBackward backward;
};

constexpr char kBackward[] = "backward";
constexpr size_t kOtherArguments = 2;  // of forward below; LibTorch wants a gradient for each

class RecordedFunction : public torch::autograd::Function<RecordedFunction> {
 public:
  static TensorVector forward(AutogradContext* context, at::TensorList inputs, const FunctionForward* forward,
                              const FunctionBackward* backward) {
    Recorded recorded = (*forward)(inputs.vec());
    context->save_for_backward(std::move(recorded.saved));
    context->saved_data[kBackward] = c10::IValue::make_capsule(c10::make_intrusive<BackwardHolder>(*backward));
    return std::move(recorded.outputs);
  }

  static TensorVector backward(AutogradContext* context, TensorVector gradients) {
    const auto holder = context->saved_data[kBackward].toCapsule();
    TensorVector result =
        static_cast<const BackwardHolder&>(*holder).backward(context->get_saved_variables(), gradients);
    result.resize(result.size() + kOtherArguments);
    return result;
  }
};

}  // namespace

TensorVector ApplyFunction(const TensorVector& inputs, const FunctionForward& forward,
                           const FunctionBackward& backward) {
  return RecordedFunction::apply(at::TensorList(inputs), &forward, &backward);
}

}  // namespace titan
