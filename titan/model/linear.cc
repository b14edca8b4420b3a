#include "titan/model/linear.h"

#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <c10/core/GradMode.h>

#include "kernels/function.h"

namespace titan {
namespace {

at::Tensor Rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// (out, in)
at::Tensor Product(const at::Tensor& x, const at::Tensor& dy) { return at::mm(Rows(dy).t(), Rows(x)); }

}  // namespace

at::Tensor WeightGradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy,
                          DeferredGradients* deferred) {
  if (deferred == nullptr || !deferred->deferring()) return Product(x, dy);
  deferred->Add([x = x.detach(), weight, dy = dy.detach()] {
    c10::AutoGradMode no_grad(false);
    const at::Tensor product = Product(x, dy);
    at::Tensor& sum = const_cast<at::Tensor&>(weight).mutable_grad();
    sum = sum.defined() ? sum.add_(product) : product;
  });
  return at::Tensor();
}

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, DeferredGradients* deferred) {
  const auto forward = [](const TensorVector& in) -> Recorded {
    return {.outputs = {at::linear(in[0], in[1])}, .saved = in};
  };
  const auto backward = [deferred](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
    const at::Tensor dx = at::matmul(gradients[0], saved[1]);
    return {dx, WeightGradient(saved[0], saved[1], gradients[0], deferred)};
  };
  return ApplyFunction({x, weight}, forward, backward)[0];
}

}  // namespace titan
