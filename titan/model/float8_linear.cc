#include "titan/model/float8_linear.h"

#include <ATen/ops/empty.h>

#include <utility>

#include "kernels/float8.h"
#include "kernels/function.h"

namespace titan {
namespace {

struct Recipe {
  Float8Scaling scaling = Float8Scaling::kTensor;
  Float8Format gradients = Float8Format::kE5m2;  // activations and weights are e4m3
  bool exact_weight_gradients = false;
};

Recipe RecipeOf(LinearPrecision precision) {
  if (precision == LinearPrecision::kFloat8Tensorwise) return {};
  return {.scaling = Float8Scaling::kRows,
          .gradients = Float8Format::kE4m3,
          .exact_weight_gradients = precision == LinearPrecision::kFloat8RowwiseGwHp};
}

at::Tensor Rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// `inverse_scale`: of a weight in float8, else undefined.
Float8Matrix QuantizedWeight(const at::Tensor& weight, const at::Tensor& inverse_scale, const Float8Layouts& layouts,
                             const Recipe& recipe) {
  if (!inverse_scale.defined()) return QuantizeFloat8(weight, Float8Format::kE4m3, layouts, recipe.scaling);
  Float8Matrix result;
  result.inverse_scale = result.transposed_inverse_scale = inverse_scale;
  if (layouts.values) result.values = weight;
  if (layouts.transposed) result.transposed = TransposeFloat8(weight);
  return result;
}

// (..., in) -> (..., out)
std::vector<int64_t> OutputSizes(const at::Tensor& x, const at::Tensor& weight) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  return sizes;
}

// dy^T x: (out, N) times (N, in), whose rows along N are those of the transposed matrices.
void AddWeightGradient(GradientSum& sum, const at::Tensor& dy_transposed, const at::Tensor& dy_inverse_scale,
                       const at::Tensor& x_transposed, const at::Tensor& x_inverse_scale) {
  const bool adds = std::exchange(sum.has_value, true);
  Float8ProductInto(sum.value, dy_transposed, dy_inverse_scale, x_transposed, x_inverse_scale, adds);
}

class Float8Backward {
 public:
  // inverse_scales: of weights that are in float8 already, else undefined.
  Float8Backward(const Recipe& recipe, std::vector<int64_t> x_sizes, TensorVector inverse_scales, WeightGradients* sums)
      : recipe_(recipe), x_sizes_(std::move(x_sizes)), inverse_scales_(std::move(inverse_scales)), sums_(sums) {}

  // saved: x, or x transposed (in, N) in float8 and its inverse scale; then the weights.
  TensorVector operator()(const TensorVector& saved, const TensorVector& gradients) const {
    const size_t first_weight = saved.size() - gradients.size();
    TensorVector result(gradients.size() + 1);
    at::Tensor dx;  // (N, in)
    for (size_t i = gradients.size(); i-- > 0;) {
      const at::Tensor& weight = saved[first_weight + i];
      const at::Tensor rows = Rows(gradients[i]);  // (N, out)
      const Float8Matrix dy = QuantizeFloat8(
          rows, recipe_.gradients, {.values = true, .transposed = !recipe_.exact_weight_gradients}, recipe_.scaling);
      const Float8Matrix w = QuantizedWeight(weight.detach(), inverse_scales_[i], {.transposed = true}, recipe_);
      const bool adds = dx.defined();
      if (!adds) dx = at::empty({rows.size(0), w.transposed.size(0)}, rows.options());
      Float8ProductInto(dx, dy.values, dy.inverse_scale, w.transposed, w.transposed_inverse_scale, adds);
      result[i + 1] = recipe_.exact_weight_gradients ? WeightGradient(saved[0], weight, rows, sums_)
                                                     : Float8WeightGradient(saved[0], saved[1], weight, dy);
    }
    result[0] = dx.view(x_sizes_);
    return result;
  }

 private:
  // Undefined where it goes to the sums.
  at::Tensor Float8WeightGradient(const at::Tensor& x_transposed, const at::Tensor& x_inverse_scale,
                                  const at::Tensor& weight, const Float8Matrix& dy) const {
    const auto add = [x_transposed, x_inverse_scale, dy_transposed = dy.transposed,
                      dy_inverse_scale = dy.transposed_inverse_scale](GradientSum& sum) {
      AddWeightGradient(sum, dy_transposed, dy_inverse_scale, x_transposed, x_inverse_scale);
    };
    if (sums_ != nullptr) {
      sums_->Add(weight, add);
      return at::Tensor();
    }
    GradientSum own{.value = at::empty(weight.sizes(), weight.options().requires_grad(false))};
    add(own);
    return own.value;
  }

  const Recipe recipe_;
  const std::vector<int64_t> x_sizes_;
  const TensorVector inverse_scales_;
  WeightGradients* const sums_;
};

}  // namespace

std::vector<at::Tensor> Float8Linears(const at::Tensor& x, const std::vector<LinearWeight>& weights,
                                      WeightGradients* gradients) {
  const Recipe recipe = RecipeOf(weights.front().precision);
  TensorVector inputs = {x}, inverse_scales;
  for (const LinearWeight& weight : weights) {
    TORCH_CHECK(gradients != nullptr || !weight.inverse_scale.defined(),
                "a weight in float8 has no gradient but in a sum of another dtype");
    inputs.push_back(weight.weight);
    inverse_scales.push_back(weight.inverse_scale);
  }
  const auto forward = [&](const TensorVector& in) -> Recorded {
    const Float8Matrix rows =
        QuantizeFloat8(Rows(in[0]), Float8Format::kE4m3, {.values = true, .transposed = !recipe.exact_weight_gradients},
                       recipe.scaling);
    Recorded recorded;
    recorded.saved = recipe.exact_weight_gradients ? TensorVector{in[0]}
                                                   : TensorVector{rows.transposed, rows.transposed_inverse_scale};
    for (size_t i = 1; i < in.size(); ++i) {
      const Float8Matrix weight = QuantizedWeight(in[i], inverse_scales[i - 1], {.values = true}, recipe);
      const at::Tensor y = Float8Product(rows.values, rows.inverse_scale, weight.values, weight.inverse_scale,
                                         {.dtype = in[0].scalar_type(), .fast_accumulation = true});
      recorded.outputs.push_back(y.view(OutputSizes(in[0], in[i])));
      recorded.saved.push_back(in[i]);
    }
    return recorded;
  };
  return ApplyFunction(inputs, forward, Float8Backward(recipe, x.sizes().vec(), inverse_scales, gradients));
}

}  // namespace titan
