#include "titan/model/linear.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <c10/core/GradMode.h>

#include "kernels/function.h"
#include "titan/model/float8_linear.h"

namespace titan {
namespace {

at::Tensor Rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// (out, in)
at::Tensor Product(const at::Tensor& x, const at::Tensor& dy) { return at::mm(Rows(dy).t(), Rows(x)); }

void AddProductTo(GradientSum& sum, const at::Tensor& x, const at::Tensor& dy) {
  const bool adds = std::exchange(sum.has_value, true);
  if (sum.value.is_cuda() && sum.value.scalar_type() != x.scalar_type()) {
    // Never rounded to the dtype of the factors.
    const at::Tensor left = Rows(dy).t(), right = Rows(x);
    if (adds) {
      at::addmm_out(sum.value, sum.value, left, right, sum.value.scalar_type());
    } else {
      at::mm_out(sum.value, left, right, sum.value.scalar_type());
    }
  } else if (adds) {
    sum.value.add_(Product(x, dy));
  } else if (sum.value.scalar_type() == x.scalar_type()) {
    at::mm_out(sum.value, Rows(dy).t(), Rows(x));
  } else {
    sum.value.copy_(Product(x, dy));
  }
}

}  // namespace

void GradientSum::Add(const at::Tensor& gradient) {
  std::exchange(has_value, true) ? value.add_(gradient) : value.copy_(gradient);
}

void WeightGradients::Add(const at::Tensor& weight, AddProduct product) {
  if (!deferring_) return AddNow(weight, product);
  deferred_.emplace_back(weight, std::move(product));
}

void WeightGradients::AddNow(const at::Tensor& weight, const AddProduct& product) const {
  const c10::AutoGradMode no_grad(false);
  if (GradientSum* const sum = find_sum_ ? find_sum_(weight) : nullptr; sum != nullptr) return product(*sum);
  at::Tensor& gradient = weight.mutable_grad();
  GradientSum sum{.value = gradient, .has_value = gradient.defined()};
  if (!sum.has_value) sum.value = at::empty(weight.sizes(), weight.options().requires_grad(false));
  product(sum);
  gradient = sum.value;
}

void WeightGradients::Run() {
  for (const auto& [weight, product] : std::exchange(deferred_, {})) AddNow(weight, product);
}

at::Tensor WeightGradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy,
                          WeightGradients* gradients) {
  if (gradients == nullptr) return Product(x, dy);
  gradients->Add(weight, [x = x.detach(), dy = dy.detach()](GradientSum& sum) { AddProductTo(sum, x, dy); });
  return at::Tensor();
}

namespace {

// Of one precision.
std::vector<at::Tensor> PlainLinears(const at::Tensor& x, const std::vector<LinearWeight>& weights,
                                     WeightGradients* gradients) {
  TensorVector inputs = {x};
  for (const LinearWeight& weight : weights) inputs.push_back(weight.weight);
  const auto forward = [](const TensorVector& in) -> Recorded {
    Recorded recorded{.outputs = {}, .saved = in};
    for (size_t i = 1; i < in.size(); ++i) recorded.outputs.push_back(at::linear(in[0], in[i]));
    return recorded;
  };
  const auto backward = [gradients](const TensorVector& saved, const TensorVector& dy) -> TensorVector {
    TensorVector result(saved.size());
    at::Tensor dx;  // (rows, in)
    // From the last to the first, as autograd adds up the gradients of separate products.
    for (size_t i = saved.size() - 1; i > 0; --i) {
      const at::Tensor rows = Rows(dy[i - 1]);
      if (!dx.defined()) {
        dx = at::mm(rows, saved[i]);
      } else if (dx.is_cuda()) {
        dx.addmm_(rows, saved[i]);
      } else {
        dx.add_(at::mm(rows, saved[i]));
      }
      result[i] = WeightGradient(saved[0], saved[i], rows, gradients);
    }
    result[0] = dx.view(saved[0].sizes());
    return result;
  };
  return ApplyFunction(inputs, forward, backward);
}

}  // namespace

std::vector<at::Tensor> Linears(const at::Tensor& x, const std::vector<LinearWeight>& weights,
                                WeightGradients* gradients) {
  std::vector<at::Tensor> products;
  // Neighbours of one precision together.
  for (size_t begin = 0; begin < weights.size();) {
    const LinearPrecision precision = weights[begin].precision;
    size_t end = begin;
    while (end < weights.size() && weights[end].precision == precision) ++end;
    const std::vector<LinearWeight> same(weights.begin() + begin, weights.begin() + end);
    const bool is_float8 = precision != LinearPrecision::kGiven;
    for (at::Tensor& y : (is_float8 ? Float8Linears : PlainLinears)(x, same, gradients)) products.push_back(y);
    begin = end;
  }
  return products;
}

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, WeightGradients* gradients) {
  return PlainLinears(x, {{weight}}, gradients)[0];
}

}  // namespace titan
