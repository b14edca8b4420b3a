#include "titan/model/linear.h"

#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdint>

namespace titan {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

at::Tensor Rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

class DeferrableLinear : public torch::autograd::Function<DeferrableLinear> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, int64_t deferred) {
    context->save_for_backward({x, weight});
    context->saved_data["deferred"] = deferred;
    return at::linear(x, weight);
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const tensor_list saved = context->get_saved_variables();
    const at::Tensor x = saved[0], weight = saved[1], dy = gradients[0];
    auto* const deferred = reinterpret_cast<DeferredGradients*>(context->saved_data["deferred"].toInt());
    const at::Tensor dx = at::matmul(dy, weight);
    if (!deferred->deferring()) return {dx, at::mm(Rows(dy).t(), Rows(x)), at::Tensor()};
    deferred->Add([x = x.detach(), weight, dy = dy.detach()] {
      c10::AutoGradMode no_grad(false);
      const at::Tensor product = at::mm(Rows(dy).t(), Rows(x));  // (out, in)
      at::Tensor& sum = const_cast<at::Tensor&>(weight).mutable_grad();
      sum = sum.defined() ? sum.add_(product) : product;
    });
    return {dx, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, DeferredGradients* deferred) {
  if (deferred == nullptr) return at::linear(x, weight);
  return DeferrableLinear::apply(x, weight, reinterpret_cast<int64_t>(deferred));
}

}  // namespace titan
