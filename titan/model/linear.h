// x weight^T, with the weight's gradient computed at once or later, as zero-bubble pipelines want it (Qi et al. 2024,
// arXiv:2401.10241): the gradient of the input goes to the previous stage first.
//
//   DeferredGradients later;
//   at::Tensor y = Linear(x, weight, &later);
//   later.set_deferring(true);
//   y.backward(dy);   // x.grad() is there, weight.grad() is not
//   later.Run();      // now it is

#ifndef TITAN_MODEL_LINEAR_H_
#define TITAN_MODEL_LINEAR_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <utility>
#include <vector>

namespace titan {

// The matrix products that a backward pass has put off.
class DeferredGradients {
 public:
  bool deferring() const { return deferring_; }
  void set_deferring(bool deferring) { deferring_ = deferring; }
  void Add(std::function<void()> product) { products_.push_back(std::move(product)); }
  // Runs and forgets them all.
  void Run() {
    for (const std::function<void()>& product : std::exchange(products_, {})) product();
  }

 private:
  bool deferring_ = false;
  std::vector<std::function<void()>> products_;
};

// x (..., in), weight (out, in) -> (..., out). Differentiable; `weight` must be a leaf. `deferred`, where it is not
// null, must outlive the graph.
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, DeferredGradients* deferred);

// dy^T x, the gradient of such a weight, for the backward of other operators: x (..., in), dy (..., out) -> (out, in).
// While `deferred` (may be null) defers, the product is put off, will be added to weight.grad(), and the result is
// undefined.
at::Tensor WeightGradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy,
                          DeferredGradients* deferred);

}  // namespace titan

#endif  // TITAN_MODEL_LINEAR_H_
