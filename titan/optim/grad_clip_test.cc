#include "titan/optim/grad_clip.h"

#include "gtest/gtest.h"

namespace titan {
namespace {

TEST(GradClipTest, ScalesLongGradientsToTheMaximum) {
  EXPECT_DOUBLE_EQ(ClipCoefficient(4, 1), 1 / (4 + 1e-6));
  EXPECT_DOUBLE_EQ(ClipCoefficient(4, 2), 2 / (4 + 1e-6));
}

TEST(GradClipTest, LeavesShortGradientsAlone) {
  EXPECT_EQ(ClipCoefficient(0.5, 1), 1);
  EXPECT_EQ(ClipCoefficient(0, 1), 1);
}

// PyTorch's epsilon: a norm that equals the maximum is scaled a little.
TEST(GradClipTest, HasPyTorchsEpsilon) { EXPECT_LT(ClipCoefficient(1, 1), 1); }

}  // namespace
}  // namespace titan
