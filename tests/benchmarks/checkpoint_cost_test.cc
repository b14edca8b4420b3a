#include "tests/benchmarks/checkpoint_cost.h"

#include "gtest/gtest.h"

namespace titan {
namespace {

StepMetrics Step(double seconds, double stall = 0, double write = 0) {
  StepMetrics metrics;
  metrics.step_seconds = seconds;
  metrics.checkpoint_seconds = stall;
  metrics.write_seconds = write;
  return metrics;
}

TEST(CheckpointCost, TellsStepsDuringASaveFromOthers) {
  // Saves before the third and the seventh step; 2.5 s and 1.1 s are written.
  const CheckpointCost cost = CostOf({Step(9), Step(1), Step(1.6, 0.5), Step(1.1), Step(1.3), Step(1, 0, 2.5),
                                      Step(1.2, 0.1), Step(1), Step(1.02, 0, 1.1)},
                                     /*warmup=*/1);
  EXPECT_EQ(cost.saves, 2);
  EXPECT_DOUBLE_EQ(cost.first_stall, 0.5);
  EXPECT_DOUBLE_EQ(cost.stall, 0.1);
  EXPECT_DOUBLE_EQ(cost.write, 1.8);
  EXPECT_EQ(cost.writing_steps, 3) << "the third, fourth and seventh; the fifth and the eighth are cut";
  EXPECT_DOUBLE_EQ(cost.writing_step, 1.1);
  EXPECT_EQ(cost.free_steps, 3) << "the second, sixth and ninth";
  EXPECT_NEAR(cost.free_step, 3.02 / 3, 1e-12);
  EXPECT_NEAR(cost.slow_down(), 3.3 / 3.02 - 1, 1e-12);
}

TEST(CheckpointCost, ASaveThatWaitsForTheOneBefore) {
  const CheckpointCost cost = CostOf({Step(1), Step(1.5, 0.25), Step(4, 3, 4), Step(1, 0, 1.5)}, 0);
  EXPECT_EQ(cost.saves, 2);
  EXPECT_DOUBLE_EQ(cost.stall, 3);
  EXPECT_DOUBLE_EQ(cost.write, 2.75);
  EXPECT_EQ(cost.writing_steps, 2);
}

TEST(CheckpointCost, WithoutSaves) {
  const CheckpointCost cost = CostOf({Step(9), Step(1), Step(3)}, 1);
  EXPECT_EQ(cost.saves, 0);
  EXPECT_EQ(cost.write, 0);
  EXPECT_EQ(cost.free_step, 2);
  EXPECT_EQ(cost.step, 2);
  EXPECT_EQ(cost.slow_down(), 0);
  EXPECT_EQ(CostOf({}, 1).free_steps, 0);
}

}  // namespace
}  // namespace titan
