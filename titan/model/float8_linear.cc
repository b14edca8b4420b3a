#include "titan/model/float8_linear.h"

#include <ATen/ops/empty.h>

#include <utility>

#include "kernels/float8.h"
#include "kernels/function.h"

namespace titan {
namespace {

constexpr Float8Format kForward = Float8Format::kE4m3, kBackward = Float8Format::kE5m2;

at::Tensor Rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// (..., in) -> (..., out)
std::vector<int64_t> OutputSizes(const at::Tensor& x, const at::Tensor& weight) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  return sizes;
}

// dy^T x: (out, N) times (N, in), whose rows along N are those of the transposed matrices.
void AddWeightGradient(GradientSum& sum, const Float8Matrix& dy, const at::Tensor& x_transposed,
                       const at::Tensor& x_inverse_scale) {
  if (!std::exchange(sum.has_value, true)) {
    return Float8ProductInto(sum.value, dy.transposed, dy.inverse_scale, x_transposed, x_inverse_scale);
  }
  sum.value.add_(Float8Product(dy.transposed, dy.inverse_scale, x_transposed, x_inverse_scale,
                               {.dtype = sum.value.scalar_type()}));
}

// saved: x transposed (in, N) float8, its inverse scale, then the weights.
TensorVector Backward(const TensorVector& saved, const TensorVector& gradients, const std::vector<int64_t>& x_sizes,
                      WeightGradients* sums) {
  TensorVector result(gradients.size() + 1);
  at::Tensor dx;  // (N, in)
  for (size_t i = gradients.size(); i-- > 0;) {
    const at::Tensor& weight = saved[i + 2];
    const Float8Matrix dy = QuantizeFloat8(Rows(gradients[i]), kBackward, {.values = true, .transposed = true});
    const Float8Matrix w = QuantizeFloat8(weight.detach(), kForward, {.transposed = true});
    const at::Tensor product = Float8Product(dy.values, dy.inverse_scale, w.transposed, w.inverse_scale,
                                             {.dtype = gradients[i].scalar_type()});
    dx = dx.defined() ? dx.add_(product) : product;
    const auto add = [dy = Float8Matrix{.values = {}, .transposed = dy.transposed, .inverse_scale = dy.inverse_scale},
                      x = saved[0], scale = saved[1]](GradientSum& sum) { AddWeightGradient(sum, dy, x, scale); };
    if (sums != nullptr) {
      sums->Add(weight, add);
    } else {
      GradientSum own{.value = at::empty(weight.sizes(), weight.options().requires_grad(false))};
      add(own);
      result[i + 1] = own.value;
    }
  }
  result[0] = dx.view(x_sizes);
  return result;
}

}  // namespace

std::vector<at::Tensor> Float8Linears(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                                      WeightGradients* gradients) {
  TensorVector inputs = {x};
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  const auto forward = [](const TensorVector& in) -> Recorded {
    const Float8Matrix rows = QuantizeFloat8(Rows(in[0]), kForward, {.values = true, .transposed = true});
    Recorded recorded{.outputs = {}, .saved = {rows.transposed, rows.inverse_scale}};
    for (size_t i = 1; i < in.size(); ++i) {
      const Float8Matrix weight = QuantizeFloat8(in[i], kForward, {.values = true});
      const at::Tensor y = Float8Product(rows.values, rows.inverse_scale, weight.values, weight.inverse_scale,
                                         {.dtype = in[0].scalar_type(), .fast_accumulation = true});
      recorded.outputs.push_back(y.view(OutputSizes(in[0], in[i])));
      recorded.saved.push_back(in[i]);
    }
    return recorded;
  };
  const auto backward = [sizes = x.sizes().vec(), gradients](const TensorVector& saved, const TensorVector& dy) {
    return Backward(saved, dy, sizes, gradients);
  };
  return ApplyFunction(inputs, forward, backward);
}

}  // namespace titan
