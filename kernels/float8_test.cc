#include "kernels/float8.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/log2.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include "gtest/gtest.h"
#include "kernels/gradient_check.h"

namespace titan {
namespace {

constexpr Float8Layouts kBoth = {.values = true, .transposed = true};

at::Tensor Dequantized(const at::Tensor& values, const at::Tensor& inverse_scale) {
  return values.cpu().to(at::kDouble) * inverse_scale.cpu().to(at::kDouble);
}

// Rounding to 3 bits of mantissa (e4m3) or 2 (e5m2) is off by at most 1/16 or 1/8 of a value, and of small ones by half
// of the smallest step, 2^-9 or 2^-16, over the scale.
TEST(Float8Test, QuantizesToTheNearest) {
  for (const at::Device device : TestDevices()) {
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{16, 16}, {48, 272}, {128, 128}, {400, 1040}}) {
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        for (const Float8Format format : {Float8Format::kE4m3, Float8Format::kE5m2}) {
          SCOPED_TRACE(testing::Message() << device << " " << rows << "x" << columns << " " << dtype);
          const at::Tensor x = (Normal({rows, columns}, 1) * 3e-3).to(device, dtype);
          const Float8Matrix q = QuantizeFloat8(x, format, kBoth);
          const at::Tensor exact = x.cpu().to(at::kDouble), back = Dequantized(q.values, q.inverse_scale);
          const bool is_e4m3 = format == Float8Format::kE4m3;
          const double largest = is_e4m3 ? 448 : 57344, scale = largest / exact.abs().max().item<double>();
          EXPECT_NEAR(q.inverse_scale.item<double>() * scale, 1.0, 1e-6);
          const at::Tensor allowed =
              exact.abs() * (is_e4m3 ? 1.0 / 16 : 1.0 / 8) + (is_e4m3 ? 0x1p-10 : 0x1p-17) / scale;
          EXPECT_TRUE((back - exact).abs().le(allowed * 1.0001).all().item<bool>());
          EXPECT_NEAR(back.abs().max().item<double>() * scale, largest, largest * 1e-6);
          EXPECT_TRUE(at::equal(q.transposed.cpu().view(at::kByte), q.values.cpu().view(at::kByte).t().contiguous()));
        }
      }
    }
  }
}

// Rows and columns of very different magnitudes, each with a scale of its own.
TEST(Float8Test, RowsHavePowersOfTwoForScales) {
  for (const at::Device device : TestDevices()) {
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{16, 16}, {48, 272}, {128, 128}, {400, 1040}}) {
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        SCOPED_TRACE(testing::Message() << device << " " << rows << "x" << columns << " " << dtype);
        at::Tensor x =
            Normal({rows, columns}, 1) * at::exp(Normal({rows, 1}, 2) * 3) * at::exp(Normal({columns}, 3) * 3);
        x.select(0, 5).zero_();
        x = x.to(device, dtype);
        const Float8Matrix q = QuantizeFloat8(x, Float8Format::kE4m3, kBoth, Float8Scaling::kRows);
        const at::Tensor exact = x.cpu().to(at::kDouble);
        ASSERT_EQ(q.inverse_scale.sizes(), (std::vector<int64_t>{rows, 1}));
        ASSERT_EQ(q.transposed_inverse_scale.sizes(), (std::vector<int64_t>{columns, 1}));
        for (const bool transposed : {false, true}) {
          const at::Tensor expected = transposed ? exact.t() : exact;
          const at::Tensor inverse = (transposed ? q.transposed_inverse_scale : q.inverse_scale).cpu().to(at::kDouble);
          const at::Tensor back = Dequantized(transposed ? q.transposed : q.values, inverse);
          const at::Tensor largest = expected.abs().amax({1}, true) / inverse;  // after scaling
          EXPECT_TRUE((largest.le(448).logical_and(largest.gt(224)).logical_or(largest.eq(0))).all().item<bool>());
          EXPECT_TRUE(at::log2(inverse).eq(at::log2(inverse).round()).all().item<bool>());
          const at::Tensor allowed = expected.abs() / 16 + 0x1p-10 * inverse;
          EXPECT_TRUE((back - expected).abs().le(allowed * 1.0001).all().item<bool>());
        }
        EXPECT_EQ(q.inverse_scale.cpu()[5].item<float>(), 1.0f);
      }
    }
  }
}

TEST(Float8Test, ZerosHaveScaleOne) {
  for (const at::Device device : TestDevices()) {
    const Float8Matrix q = QuantizeFloat8(at::zeros({32, 16}, at::TensorOptions(device)), Float8Format::kE4m3, kBoth);
    EXPECT_EQ(q.inverse_scale.item<float>(), 1.0f);
    EXPECT_EQ(q.values.cpu().to(at::kFloat).abs().sum().item<float>(), 0.0f);
  }
}

// As FSDP does it, whose ranks have uneven pieces.
TEST(Float8Test, PiecesGiveTheSameBytesAsTheWhole) {
  for (const at::Device device : TestDevices()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const at::Tensor x = Normal({144, 208}, 1).to(device, dtype), flat = x.flatten();
      const Float8Matrix whole = QuantizeFloat8(x, Float8Format::kE4m3, kBoth);
      const at::Tensor largest = at::zeros({}, x.options().dtype(at::kFloat));
      const at::Tensor values = at::zeros({144, 208}, x.options().dtype(at::kFloat8_e4m3fn));
      const std::vector<int64_t> sizes = {64, 0, 16 * 1000, 144 * 208 - 64 - 16 * 1000};
      int64_t offset = 0;
      for (const int64_t size : sizes) {
        AddLargestMagnitude(largest, flat.narrow(0, offset, size));
        offset += size;
      }
      offset = 0;
      for (const int64_t size : sizes) {
        QuantizeFloat8Into(values.flatten().narrow(0, offset, size), flat.narrow(0, offset, size), largest);
        offset += size;
      }
      const auto bytes = [](const at::Tensor& t) { return t.cpu().view(at::kByte); };
      EXPECT_TRUE(at::equal(bytes(values), bytes(whole.values))) << device << dtype;
      EXPECT_TRUE(at::equal(bytes(TransposeFloat8(values)), bytes(whole.transposed))) << device << dtype;
      EXPECT_EQ(InverseFloat8Scale(largest).item<float>(), whole.inverse_scale.item<float>()) << device << dtype;
    }
  }
}

TEST(Float8Test, ProductIsThatOfTheRoundedMatrices) {
  for (const at::Device device : TestDevices()) {
    const Float8Matrix a = QuantizeFloat8(Normal({64, 256}, 1).to(device, at::kFloat), Float8Format::kE5m2, kBoth);
    const Float8Matrix b = QuantizeFloat8(Normal({48, 256}, 2).to(device, at::kFloat), Float8Format::kE4m3, kBoth);
    const at::Tensor expected =
        at::matmul(Dequantized(a.values, a.inverse_scale), Dequantized(b.values, b.inverse_scale).t());  // (64, 48)
    const auto product = [&](const Float8ProductOptions& options) {
      return Float8Product(a.values, a.inverse_scale, b.values, b.inverse_scale, options).cpu();
    };
    EXPECT_LE(RelativeError(product({.dtype = at::kFloat}), expected), 2e-4) << device;
    EXPECT_LE(RelativeError(product({.dtype = at::kBFloat16}), expected), 3e-3) << device;
    EXPECT_LE(RelativeError(product({.dtype = at::kBFloat16, .fast_accumulation = true}), expected), 5e-3) << device;
    at::Tensor out = at::zeros({64, 48}, at::TensorOptions(device).dtype(at::kFloat));
    Float8ProductInto(out, a.values, a.inverse_scale, b.values, b.inverse_scale);
    EXPECT_LE(RelativeError(out.cpu(), expected), 2e-4) << device;
    Float8ProductInto(out, a.values, a.inverse_scale, b.values, b.inverse_scale, /*adds=*/true);
    EXPECT_LE(RelativeError(out.cpu(), expected * 2), 2e-4) << device;
    at::Tensor narrow = product({.dtype = at::kBFloat16}).to(device);
    Float8ProductInto(narrow, a.values, a.inverse_scale, b.values, b.inverse_scale, /*adds=*/true);
    EXPECT_LE(RelativeError(narrow.cpu(), expected * 2), 5e-3) << device;
  }
}

TEST(Float8Test, RowwiseProductIsThatOfTheRoundedMatrices) {
  for (const at::Device device : TestDevices()) {
    const auto quantized = [&](at::IntArrayRef shape, uint64_t seed) {
      return QuantizeFloat8(Normal(shape, seed).to(device, at::kFloat), Float8Format::kE4m3, kBoth,
                            Float8Scaling::kRows);
    };
    const Float8Matrix a = quantized({64, 256}, 1), b = quantized({48, 256}, 2);
    const at::Tensor expected =
        at::matmul(Dequantized(a.values, a.inverse_scale), Dequantized(b.values, b.inverse_scale).t());  // (64, 48)
    const at::Tensor product = Float8Product(a.values, a.inverse_scale, b.values, b.inverse_scale, {});
    EXPECT_LE(RelativeError(product.cpu(), expected), 3e-3) << device;
    at::Tensor out = at::zeros({64, 48}, at::TensorOptions(device).dtype(at::kFloat));
    Float8ProductInto(out, a.values, a.inverse_scale, b.values, b.inverse_scale);
    EXPECT_LE(RelativeError(out.cpu(), expected), 3e-3) << device;
    Float8ProductInto(out, a.values, a.inverse_scale, b.values, b.inverse_scale, /*adds=*/true);
    EXPECT_LE(RelativeError(out.cpu(), expected * 2), 3e-3) << device;
  }
}

TEST(Float8Test, RefusesExtentsThatTheHardwareDoesNotTake) {
  EXPECT_THROW(QuantizeFloat8(Normal({16, 24}, 1).to(at::kFloat), Float8Format::kE4m3, kBoth), c10::Error);
  EXPECT_THROW(QuantizeFloat8(Normal({8, 16}, 1).to(at::kFloat), Float8Format::kE4m3, kBoth), c10::Error);
}

}  // namespace
}  // namespace titan
