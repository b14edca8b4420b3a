#include "titan/metrics/step_metrics.h"

#include "gtest/gtest.h"

namespace titan {
namespace {

StepMetrics Step(int64_t step, double seconds, int64_t tokens) {
  return {.step = step,
          .loss = 10.0 / static_cast<double>(step),
          .tokens = tokens,
          .step_seconds = seconds,
          .data_seconds = seconds / 4,
          .tokens_per_second = static_cast<double>(tokens) / seconds,
          .tflops = 2 * static_cast<double>(tokens) / seconds,
          .mfu = 1e-4 * static_cast<double>(tokens) / seconds};
}

TEST(StepWindowTest, LogsTheFirstEveryNthAndTheLast) {
  const StepWindow window(10, 25);
  for (const int64_t step : {1, 10, 20, 25}) EXPECT_TRUE(window.IsLogStep(step)) << step;
  for (const int64_t step : {2, 9, 11, 24, 26}) EXPECT_FALSE(window.IsLogStep(step)) << step;
}

TEST(StepWindowTest, ThroughputIsTokensOverTimeOfTheWindow) {
  StepWindow window(2, 0);
  window.Add(Step(1, 3.0, 600));
  window.Add(Step(2, 1.0, 1000));
  const StepMetrics mean = window.Take();
  EXPECT_EQ(mean.step, 2);
  EXPECT_EQ(mean.loss, 5.0);  // the newest
  EXPECT_EQ(mean.tokens, 1600);
  EXPECT_DOUBLE_EQ(mean.tokens_per_second, 400);
  EXPECT_DOUBLE_EQ(mean.tflops, 800);
  EXPECT_DOUBLE_EQ(mean.mfu, 0.04);
  EXPECT_DOUBLE_EQ(mean.step_seconds, 2);
  EXPECT_DOUBLE_EQ(mean.data_seconds, 0.5);
}

TEST(StepWindowTest, TakeStartsOver) {
  StepWindow window(1, 0);
  window.Add(Step(1, 3.0, 600));
  window.Take();
  window.Add(Step(2, 1.0, 1000));
  EXPECT_DOUBLE_EQ(window.Take().tokens_per_second, 1000);
}

}  // namespace
}  // namespace titan
