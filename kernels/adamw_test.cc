#include "kernels/adamw.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace titan {
namespace {

constexpr AdamWArguments kArguments = {.lr = 0.01,
                                       .beta1 = 0.9,
                                       .beta2 = 0.95,
                                       .eps = 1e-8,
                                       .weight_decay = 0.1,
                                       .num_updates = 0,
                                       .gradient_scale = 0.25};

// Fixed values of both signs and of very different sizes.
at::Tensor Values(int64_t size, double phase, at::ScalarType dtype) {
  return at::arange(size, at::kDouble).mul(0.37).add(phase).sin().pow(3).to(dtype);
}

struct State {
  explicit State(at::ScalarType dtype)
      : parameters{Values(7, 0, dtype), Values(100'003, 1, dtype), Values(1, 2, dtype)} {
    for (const at::Tensor& parameter : parameters) {
      exp_avg.push_back(at::zeros_like(parameter));
      exp_avg_sq.push_back(at::zeros_like(parameter));
    }
  }

  void Step(AdamWArguments arguments, int64_t step) {
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& p : parameters) gradients.push_back(Values(p.numel(), step * 1.3, p.scalar_type()));
    arguments.num_updates = step;
    AdamWStep({parameters, gradients, exp_avg, exp_avg_sq}, arguments);
  }

  std::vector<at::Tensor> parameters, exp_avg, exp_avg_sq;
};

// The textbook: one element at a time, in fp64, with the bias-corrected averages written out.
std::vector<double> Reference(const at::Tensor& start, int64_t steps, const AdamWArguments& a) {
  std::vector<double> result;
  const at::Tensor wide = start.to(at::kDouble);
  std::vector<at::Tensor> gradients;
  for (int64_t step = 1; step <= steps; ++step) gradients.push_back(Values(start.numel(), step * 1.3, at::kDouble));
  for (int64_t i = 0; i < start.numel(); ++i) {
    double p = wide.const_data_ptr<double>()[i], m = 0, v = 0;
    for (int64_t t = 1; t <= steps; ++t) {
      const double g = gradients[t - 1].const_data_ptr<double>()[i] * a.gradient_scale;
      p -= a.lr * a.weight_decay * p;
      m = a.beta1 * m + (1 - a.beta1) * g;
      v = a.beta2 * v + (1 - a.beta2) * g * g;
      const double m_hat = m / (1 - std::pow(a.beta1, t));
      const double v_hat = v / (1 - std::pow(a.beta2, t));
      p -= a.lr * m_hat / (std::sqrt(v_hat) + a.eps);
    }
    result.push_back(p);
  }
  return result;
}

void ExpectFollowsTheTextbook(at::ScalarType dtype, double tolerance) {
  const State start(dtype);
  State state(dtype);
  for (int64_t step = 1; step <= 5; ++step) state.Step(kArguments, step);
  for (size_t i = 0; i < state.parameters.size(); ++i) {
    const std::vector<double> expected = Reference(start.parameters[i], 5, kArguments);
    const at::Tensor actual = state.parameters[i].to(at::kDouble);
    for (size_t k = 0; k < expected.size(); ++k) {
      ASSERT_NEAR(actual.const_data_ptr<double>()[k], expected[k], tolerance) << "tensor " << i << " element " << k;
    }
  }
}

TEST(AdamWTest, FollowsTheTextbookInFp64) { ExpectFollowsTheTextbook(at::kDouble, 1e-13); }
// A gradient whose cube is tiny differs between fp32 and fp64 itself, and Adam divides by its size.
TEST(AdamWTest, FollowsTheTextbookInFp32) { ExpectFollowsTheTextbook(at::kFloat, 2e-4); }

TEST(AdamWTest, DoesNotDependOnTheNumberOfThreads) {
  const int threads = at::get_num_threads();
  State one(at::kFloat), many(at::kFloat);
  at::set_num_threads(1);
  one.Step(kArguments, 1);
  at::set_num_threads(3);
  many.Step(kArguments, 1);
  at::set_num_threads(threads);
  for (size_t i = 0; i < one.parameters.size(); ++i) EXPECT_TRUE(at::equal(one.parameters[i], many.parameters[i]));
}

TEST(AdamWTest, RefusesTensorsThatDoNotMatch) {
  State state(at::kFloat);
  std::vector<at::Tensor> gradients = {state.parameters[0], state.parameters[1]};
  EXPECT_ANY_THROW(AdamWStep({state.parameters, gradients, state.exp_avg, state.exp_avg_sq}, kArguments));
  gradients.push_back(Values(2, 0, at::kFloat));
  EXPECT_ANY_THROW(AdamWStep({state.parameters, gradients, state.exp_avg, state.exp_avg_sq}, kArguments));
}

}  // namespace
}  // namespace titan
