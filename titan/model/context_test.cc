#include "titan/model/context.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>

#include <cmath>

#include "gtest/gtest.h"

namespace titan {
namespace {

at::Tensor Positions(std::vector<int64_t> values, int64_t rows) { return at::tensor(values).view({rows, -1}); }

TEST(ContextTest, OneDocumentPerRow) {
  EXPECT_EQ(FirstKeys(Positions({0, 1, 2, 0, 1, 2}, 2)).sum().item<int64_t>(), 0);
  // A row may begin inside a document.
  EXPECT_EQ(FirstKeys(Positions({0, 1, 2, 7, 8, 9}, 2)).sum().item<int64_t>(), 0);
  EXPECT_EQ(FirstKeys(Positions({0}, 1)).sizes(), at::IntArrayRef({1, 1}));
}

TEST(ContextTest, EachQuerySeesItsDocumentUpToItself) {
  // Row 0: documents of 2 and 3 tokens. Row 1: two of one token, then one of 3 that goes on from another row.
  const std::vector<std::vector<int64_t>> documents = {{0, 0, 1, 1, 1}, {0, 1, 2, 2, 2}};
  const std::vector<int64_t> positions = {0, 1, 0, 1, 2, 0, 0, 5, 6, 7};
  EXPECT_EQ(DocumentStarts(positions.data(), 2, 5), (std::vector<int32_t>{0, 2, 5, 6, 7, 10}));
  const at::Tensor first_key = FirstKeys(Positions(positions, 2));
  const at::Tensor mask = DocumentCausalMask(first_key);
  ASSERT_EQ(mask.sizes(), at::IntArrayRef({2, 1, 5, 5}));
  for (int64_t row = 0; row < 2; ++row) {
    for (int64_t query = 0; query < 5; ++query) {
      for (int64_t key = 0; key < 5; ++key) {
        const bool visible = key <= query && documents[row][query] == documents[row][key];
        EXPECT_EQ(mask[row][0][query][key].item<bool>(), visible) << row << " " << query << " " << key;
        EXPECT_EQ(key >= first_key[row][query].item<int64_t>() && key <= query, visible);
      }
    }
  }
}

TEST(ContextTest, TablesHoldTheAngles) {
  const at::Tensor positions = Positions({0, 1, 100000, 0}, 2);
  const BatchContext context = MakeDocumentContext(positions, {1.0, 0.001}, {.compute_dtype = at::kBFloat16});
  EXPECT_EQ(context.rope_cos.scalar_type(), at::kFloat);
  ASSERT_EQ(context.rope_cos.sizes(), at::IntArrayRef({2, 2, 2}));
  EXPECT_EQ(context.rope_cos[1][0][0].item<float>(), static_cast<float>(std::cos(100000.0)));
  EXPECT_EQ(context.rope_sin[1][0][1].item<float>(), static_cast<float>(std::sin(100000.0 * 0.001)));
  EXPECT_EQ(MakeDocumentContext(positions, {1.0}, {.compute_dtype = at::kDouble}).rope_sin.scalar_type(), at::kDouble);
}

}  // namespace
}  // namespace titan
