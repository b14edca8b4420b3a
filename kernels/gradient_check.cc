#include "kernels/gradient_check.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include <optional>

#include "gtest/gtest.h"

namespace titan {
namespace {

struct Results {
  at::Tensor output;
  std::vector<at::Tensor> gradients;
};

// The output's gradient is rounded as an output of `gradient_dtype` would have it; none: as the output's own.
Results Run(const std::vector<at::Tensor>& values, at::Device device, at::ScalarType dtype, const Operator& op,
            std::optional<at::ScalarType> gradient_dtype = std::nullopt) {
  std::vector<at::Tensor> inputs;
  for (const at::Tensor& value : values) {
    inputs.push_back(value.to(device, dtype, /*non_blocking=*/false, /*copy=*/true).detach().requires_grad_(true));
  }
  Results results;
  results.output = op(inputs);
  const at::ScalarType own = results.output.scalar_type();
  results.output.backward(Normal(results.output.sizes(), 1234).to(gradient_dtype.value_or(own)).to(device, own));
  for (const at::Tensor& input : inputs) results.gradients.push_back(input.grad().cpu());
  results.output = results.output.detach().cpu();
  return results;
}

}  // namespace

std::vector<at::Device> TestDevices() {
  std::vector<at::Device> devices = {at::kCPU};
  if (at::globalContext().hasCUDA()) devices.emplace_back(at::kCUDA, 0);
  return devices;
}

at::Tensor Normal(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::TensorOptions(at::kDouble));
}

at::Tensor Integers(int64_t high, at::IntArrayRef shape, uint64_t seed) {
  return at::randint(high, shape, at::detail::createCPUGenerator(seed), at::TensorOptions(at::kLong));
}

double RelativeError(const at::Tensor& actual, const at::Tensor& expected) {
  if (expected.numel() == 0) return 0;
  const at::Tensor reference = expected.detach().to(at::kDouble);
  const double difference = (actual.detach().to(at::kDouble).sub(reference)).norm().item<double>();
  const double norm = reference.norm().item<double>();
  return norm > 0 ? difference / norm : difference;
}

void ExpectMatchesReference(const std::vector<at::Tensor>& inputs, at::ScalarType dtype, double tolerance,
                            const Operator& actual, const Operator& reference) {
  std::vector<at::Tensor> rounded;
  for (const at::Tensor& input : inputs) rounded.push_back(input.to(dtype).to(at::kDouble));
  for (const at::Device device : TestDevices()) {
    SCOPED_TRACE(device.str());
    const Results mine = Run(rounded, device, dtype, actual);
    const Results golden = Run(rounded, at::kCPU, at::kDouble, reference, mine.output.scalar_type());
    ASSERT_EQ(mine.output.sizes(), golden.output.sizes());
    EXPECT_LE(RelativeError(mine.output, golden.output), tolerance) << "output, " << dtype;
    for (size_t i = 0; i < inputs.size(); ++i) {
      ASSERT_TRUE(mine.gradients[i].defined()) << "input " << i << " has no gradient";
      EXPECT_EQ(mine.gradients[i].scalar_type(), dtype);
      EXPECT_LE(RelativeError(mine.gradients[i], golden.gradients[i]), tolerance)
          << "gradient of input " << i << ", " << dtype;
    }
  }
}

}  // namespace titan
