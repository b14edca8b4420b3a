#include "titan/parallel/copy_stream.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <utility>

#include "gtest/gtest.h"

namespace titan {
namespace {

constexpr int64_t kSize = 1 << 22;

// There, computed with, and back, again and again through memory that is given back each time: a copy that runs too
// early or a memory that is used too early gives another sum.
void ExpectCopies(at::Device device) {
  const CopyStream copies(device);
  const at::Tensor host = copies.NewHostTensor(kSize, at::kFloat);
  host.copy_(at::arange(kSize));
  for (int round = 1; round <= 20; ++round) {
    at::Tensor on_device = at::empty({kSize}, at::TensorOptions(device).dtype(at::kFloat));
    copies.Run([&] { on_device.copy_(host, /*non_blocking=*/true); });
    copies.Join();
    at::Tensor sum = on_device + 1;
    on_device.reset();
    copies.CopyToHost(host, sum);
    sum.reset();
    const at::Tensor overwritten = at::full({kSize}, -1.0, at::TensorOptions(device).dtype(at::kFloat));
  }
  copies.Finish();
  EXPECT_TRUE(at::equal(host, at::arange(kSize).to(at::kFloat) + 20));
}

TEST(CopyStreamTest, OnTheCpu) {
  ExpectCopies(at::kCPU);
  EXPECT_FALSE(CopyStream(at::kCPU).NewHostTensor(4, at::kFloat).is_pinned());
}

TEST(CopyStreamTest, OnAGpu) {
  if (!at::globalContext().hasCUDA()) GTEST_SKIP() << "no GPU";
  ExpectCopies(at::Device(at::kCUDA, 0));
  EXPECT_TRUE(CopyStream(at::Device(at::kCUDA, 0)).NewHostTensor(4, at::kFloat).is_pinned());
}

}  // namespace
}  // namespace titan
