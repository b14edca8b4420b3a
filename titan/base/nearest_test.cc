#include "titan/base/nearest.h"

#include "gtest/gtest.h"

namespace titan {
namespace {

TEST(Nearest, FindsSlipsOfTheFinger) {
  const std::vector<std::string> names = {"weight_decay", "lr", "beta1", "beta2", "eps"};
  EXPECT_EQ(Nearest("weigth_decay", names), "weight_decay");  // swapped letters count one
  EXPECT_EQ(Nearest("weightDecay", names), "weight_decay");
  EXPECT_EQ(Nearest("LR", names), "lr");
  EXPECT_EQ(Nearest("beta3", names), "beta1");  // the first of equals
  EXPECT_EQ(Nearest("momentum", names), "");
  EXPECT_EQ(Nearest("", names), "");
  EXPECT_EQ(Nearest(std::string(100000, 'a'), names), "");
}

}  // namespace
}  // namespace titan
