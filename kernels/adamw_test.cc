#include "kernels/adamw.h"

#include <ATen/Parallel.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"

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

// Sizes of several pieces, with and without elements left over from vectors of 16 bytes.
const std::vector<int64_t> kSizes = {7, 100'003, 1, 0, 65'536};

struct State {
  explicit State(at::ScalarType dtype, at::Device device = at::kCPU, const std::vector<int64_t>& sizes = kSizes,
                 bool rounds_averages = false) {
    const at::ScalarType average = rounds_averages ? at::kBFloat16 : dtype;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const at::Tensor parameter = Values(sizes[i], static_cast<double>(i), dtype).to(device);
      parameters.push_back(parameter);
      exp_avg.push_back(at::zeros_like(parameter, average));
      exp_avg_sq.push_back(at::zeros_like(parameter, average));
      copies.push_back(at::empty_like(parameter, at::kBFloat16));
    }
  }

  void Step(AdamWArguments arguments, int64_t step, bool with_copies = true) {
    std::vector<at::Tensor> gradients, before;
    for (const at::Tensor& p : parameters) {
      gradients.push_back(Values(p.numel(), static_cast<double>(step) * 1.3, p.scalar_type()).to(p.device()));
      before.push_back(gradients.back().clone());
    }
    arguments.num_updates = step;
    const at::TensorList copied = with_copies ? at::TensorList(copies) : at::TensorList();
    AdamWStep({parameters, gradients, exp_avg, exp_avg_sq, copied}, arguments);
    for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(gradients[i], before[i]));
  }

  std::vector<at::Tensor> parameters, exp_avg, exp_avg_sq, copies;
};

void ExpectEqual(const State& a, const State& b) {
  for (size_t i = 0; i < a.parameters.size(); ++i) {
    EXPECT_TRUE(at::equal(a.parameters[i], b.parameters[i])) << "tensor " << i;
    EXPECT_TRUE(at::equal(a.exp_avg[i], b.exp_avg[i])) << "tensor " << i;
    EXPECT_TRUE(at::equal(a.exp_avg_sq[i], b.exp_avg_sq[i])) << "tensor " << i;
  }
}

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

void ExpectNear(const at::Tensor& actual, const std::vector<double>& expected, double tolerance) {
  const at::Tensor wide = actual.to(at::kCPU, at::kDouble);
  for (size_t k = 0; k < expected.size(); ++k) {
    ASSERT_NEAR(wide.const_data_ptr<double>()[k], expected[k], tolerance)
        << "element " << k << " of " << expected.size();
  }
}

void ExpectFollowsTheTextbook(at::ScalarType dtype, double tolerance) {
  const State start(dtype);
  for (const at::Device device : TestDevices()) {
    SCOPED_TRACE(device.str());
    State state(dtype, device);
    for (int64_t step = 1; step <= 5; ++step) state.Step(kArguments, step);
    for (size_t i = 0; i < state.parameters.size(); ++i) {
      ExpectNear(state.parameters[i], Reference(start.parameters[i], 5, kArguments), tolerance);
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
  ExpectEqual(one, many);
}

TEST(AdamWTest, CopiesAreTheRoundedParameters) {
  for (const at::Device device : TestDevices()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      State with(dtype, device), without(dtype, device);
      for (int64_t step = 1; step <= 2; ++step) {
        with.Step(kArguments, step);
        without.Step(kArguments, step, /*with_copies=*/false);
        for (size_t i = 0; i < with.copies.size(); ++i) {
          EXPECT_TRUE(at::equal(with.copies[i], with.parameters[i].to(at::kBFloat16))) << device << " tensor " << i;
        }
      }
      ExpectEqual(with, without);
    }
  }
}

// On the CPU the same bits. The two CUDA kernels contract products and sums in different places, and so may differ in
// the last bit of fp32 (`absolute` where a difference of larger values is left), and then on either side of a bf16
// rounding.
bool IsSame(const at::Tensor& a, const at::Tensor& b, double absolute) {
  if (a.is_cpu()) return at::equal(a, b);
  return at::allclose(a, b, /*rtol=*/a.scalar_type() == at::kBFloat16 ? 0x1p-7 : 0x1p-21, absolute);
}

// The same step, but for what is stored of the averages: rounded, to the nearest.
TEST(AdamWTest, AveragesInBfloat16AreTheRoundedOnes) {
  for (const at::Device device : TestDevices()) {
    SCOPED_TRACE(device.str());
    State rounded(at::kFloat, device, kSizes, /*rounds_averages=*/true);
    for (int64_t step = 1; step <= 4; ++step) {
      State exact(at::kFloat, device);  // from the same rounded averages
      exact.parameters.clear();
      for (size_t i = 0; i < kSizes.size(); ++i) {
        exact.parameters.push_back(rounded.parameters[i].clone());
        exact.exp_avg[i].copy_(rounded.exp_avg[i]);
        exact.exp_avg_sq[i].copy_(rounded.exp_avg_sq[i]);
      }
      rounded.Step(kArguments, step);
      exact.Step(kArguments, step);
      for (size_t i = 0; i < kSizes.size(); ++i) {
        EXPECT_TRUE(IsSame(rounded.parameters[i], exact.parameters[i], 1e-8)) << "tensor " << i;
        EXPECT_TRUE(IsSame(rounded.copies[i], exact.copies[i], 1e-8)) << "tensor " << i;
        EXPECT_TRUE(IsSame(rounded.exp_avg[i], exact.exp_avg[i].to(at::kBFloat16), 1e-9)) << "tensor " << i;
        EXPECT_TRUE(IsSame(rounded.exp_avg_sq[i], exact.exp_avg_sq[i].to(at::kBFloat16), 0)) << "tensor " << i;
      }
    }
  }
}

// More tensors than one launch takes, from every alignment.
TEST(AdamWTest, ManySmallTensors) {
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < 700; ++i) sizes.push_back(i % 11);
  for (const at::Device device : TestDevices()) {
    State one_by_one(at::kFloat, device, sizes), views(at::kFloat, device, sizes);
    const at::Tensor memory = at::zeros({11 * 700}, at::TensorOptions(device));
    int64_t offset = 0;
    for (at::Tensor& parameter : views.parameters) {
      const at::Tensor view = memory.narrow(0, offset, parameter.numel());
      offset += parameter.numel();
      view.copy_(parameter);
      parameter = view;
    }
    one_by_one.Step(kArguments, 1);
    views.Step(kArguments, 1);
    ExpectEqual(one_by_one, views);
    for (size_t i = 0; i < sizes.size(); ++i) {
      const at::Tensor start = Values(sizes[i], static_cast<double>(i), at::kFloat);
      ExpectNear(views.parameters[i], Reference(start, 1, kArguments), 2e-4);
    }
  }
}

TEST(AdamWTest, RefusesTensorsThatDoNotMatch) {
  State state(at::kFloat, at::kCPU, {7, 3, 1});
  std::vector<at::Tensor> gradients = {state.parameters[0], state.parameters[1]};
  EXPECT_ANY_THROW(AdamWStep({state.parameters, gradients, state.exp_avg, state.exp_avg_sq}, kArguments));
  gradients.push_back(Values(2, 0, at::kFloat));
  EXPECT_ANY_THROW(AdamWStep({state.parameters, gradients, state.exp_avg, state.exp_avg_sq}, kArguments));
  const State rounded(at::kFloat, at::kCPU, {7, 3, 1}, /*rounds_averages=*/true);
  EXPECT_ANY_THROW(AdamWStep({state.parameters, state.parameters, state.exp_avg, rounded.exp_avg_sq}, kArguments));
  const State wide(at::kDouble, at::kCPU, {7, 3, 1});
  EXPECT_ANY_THROW(AdamWStep({wide.parameters, wide.parameters, rounded.exp_avg, rounded.exp_avg_sq}, kArguments));
  EXPECT_ANY_THROW(AdamWStep(
      {state.parameters, state.parameters, state.exp_avg, state.exp_avg_sq, /*copies, of fp32=*/state.exp_avg},
      kArguments));
}

}  // namespace
}  // namespace titan
