// x weight^T, with the weight's gradient added where gradients are summed, in the dtype of the sum, by the matrix
// product itself; at once, or later, as zero-bubble pipelines want it (Qi et al. 2024, arXiv:2401.10241): the gradient
// of the input goes to the previous stage first.
//
//   WeightGradients gradients;
//   at::Tensor y = Linear(x, weight, &gradients);
//   gradients.set_deferring(true);
//   y.backward(dy);    // x.grad() is there, weight.grad() is not
//   gradients.Run();   // now it is

#ifndef TITAN_MODEL_LINEAR_H_
#define TITAN_MODEL_LINEAR_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <utility>
#include <vector>

namespace titan {

// Where gradients of one weight are added up. Usually of a wider dtype than the weight.
struct GradientSum {
  at::Tensor value = {};  // in the weight's shape; garbage until something is added
  bool has_value = false;

  void Add(const at::Tensor& gradient);
};

// Where the products that are gradients of weights go, and when.
class WeightGradients {
 public:
  // The sum of a weight's gradients. Null: weight.grad().
  using FindSum = std::function<GradientSum*(const at::Tensor& weight)>;

  explicit WeightGradients(FindSum find_sum = nullptr) : find_sum_(std::move(find_sum)) {}

  bool deferring() const { return deferring_; }
  void set_deferring(bool deferring) { deferring_ = deferring; }

  // Has `product` added to the gradient of `weight`, or remembers to.
  using AddProduct = std::function<void(GradientSum& sum)>;
  void Add(const at::Tensor& weight, AddProduct product);
  // Does and forgets what was remembered.
  void Run();

 private:
  void AddNow(const at::Tensor& weight, const AddProduct& product) const;

  FindSum find_sum_;
  bool deferring_ = false;
  std::vector<std::pair<at::Tensor, AddProduct>> deferred_;
};

// What a product is computed in.
enum class LinearPrecision {
  kGiven,  // the dtype of its factors
  // Float8, see kernels/float8.h, forward and backward; the result has the dtype of the factors.
  kFloat8Tensorwise,   // a scale for each matrix
  kFloat8Rowwise,      // a scale for each row of a factor
  kFloat8RowwiseGwHp,  // the same, but the gradients of weights in the dtype of the factors
};

struct LinearWeight {
  at::Tensor weight;  // (out, in), a leaf
  LinearPrecision precision = LinearPrecision::kGiven;
  at::Tensor inverse_scale = {};  // of a weight that is in float8 already, see kernels/float8.h
};

// x (..., in), weight (out, in) -> (..., out). Differentiable; `weight` must be a leaf. `gradients`, where it is not
// null, must outlive the graph.
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, WeightGradients* gradients);

// The same for several weights; the gradients of x are summed by the matrix products, too. For float8 the extents of
// weights and the number of rows of x are multiples of 16; the gradient of a weight that is in float8 already goes to
// `gradients`, which has a sum for it.
std::vector<at::Tensor> Linears(const at::Tensor& x, const std::vector<LinearWeight>& weights,
                                WeightGradients* gradients);

// For the backward of other operators: dy^T x, (out, in), the gradient of such a weight. With `gradients` it goes
// there, and the result is undefined.
at::Tensor WeightGradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy,
                          WeightGradients* gradients);

}  // namespace titan

#endif  // TITAN_MODEL_LINEAR_H_
