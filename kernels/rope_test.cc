#include "kernels/rope.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/view_as_complex.h>
#include <ATen/ops/view_as_real.h>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"

namespace titan {
namespace {

// The pair (i, i + d/2) as a complex number, turned by its angle.
at::Tensor Reference(const at::Tensor& x, const at::Tensor& angles) {
  const int64_t half = x.size(3) / 2;
  const at::Tensor z = at::complex(x.narrow(3, 0, half), x.narrow(3, half, half));
  const at::Tensor y = z * at::complex(angles.cos(), angles.sin()).unsqueeze(2);
  const at::Tensor real = at::view_as_real(y);
  return at::cat({real.select(-1, 0), real.select(-1, 1)}, 3);
}

TEST(RopeTest, MatchesComplexRotation) {
  for (const int64_t dim : {2, 10, 16, 128}) {
    const at::Tensor angles = Normal({2, 21, dim / 2}, 5) * 3;
    const auto reference = [&](const auto& in) { return Reference(in[0], angles); };
    const std::vector<at::Tensor> inputs = {Normal({2, 21, 3, dim}, 1)};
    for (const auto& [dtype, tolerance] :
         {std::pair{at::kFloat, 1e-6}, std::pair{at::kDouble, 1e-14}, std::pair{at::kBFloat16, 1e-2}}) {
      const auto table = dtype == at::kDouble ? at::kDouble : at::kFloat;
      const at::Tensor cos = angles.cos().to(table), sin = angles.sin().to(table);
      ExpectMatchesReference(
          inputs, dtype, tolerance,
          [&](const auto& in) { return Rope(in[0], cos.to(in[0].device()), sin.to(in[0].device())); }, reference);
    }
  }
}

TEST(RopeTest, StridedHeads) {
  const at::Tensor angles = Normal({2, 5, 4}, 5);
  const at::Tensor x = Normal({2, 3, 5, 8}, 1).transpose(1, 2);  // (2, 5, 3, 8)
  EXPECT_LE(RelativeError(Rope(x, angles.cos(), angles.sin()), Reference(x, angles)), 1e-14);
}

TEST(RopeTest, RefusesTablesThatDoNotFit) {
  const at::Tensor table = Normal({1, 4, 4}, 1);
  EXPECT_THROW(Rope(Normal({2, 4, 1, 8}, 1), table, table), c10::Error);
  EXPECT_THROW(Rope(Normal({1, 4, 1, 8}, 1).to(at::kFloat), table, table), c10::Error);  // fp64 tables
}

}  // namespace
}  // namespace titan
