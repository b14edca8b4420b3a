#include "titan/metrics/console.h"

#include <limits>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

StepMetrics Step(int64_t step) {
  return {.step = step,
          .loss = 7.62345,
          .grad_norm = 1.25,
          .lr = 8e-4,
          .tokens = 16384,
          .tokens_seen = 16384 * step,
          .step_seconds = 2,
          .data_seconds = 0.1,
          .tokens_per_second = 8192.4,
          .tflops = 0.586,
          .mfu = 0,
          .memory_bytes = int64_t{3} << 29};
}

std::string LineOf(const StepMetrics& metrics, ConsoleOptions options) {
  std::ostringstream out;
  Console console(out, options);
  EXPECT_TRUE(console.Log(metrics).ok());
  return out.str();
}

TEST(ConsoleTest, PlainLine) {
  EXPECT_EQ(LineOf(Step(1), {.log_freq = 1, .total_steps = 101}),
            "step:   1  loss:  7.62345  grad_norm:  1.2500  lr: 8.00e-04  memory:  1.50GiB  tps: 8,192  tflops: 0.59  "
            "mfu: N/A  left: 3m20s\n");
}

TEST(ConsoleTest, EveryValidationHasALine) {
  std::ostringstream out;
  Console console(out, {.log_freq = 10, .total_steps = 101});
  ASSERT_TRUE(console
                  .LogValidation({.step = 7,
                                  .loss = 6.5,
                                  .tokens = 16384,
                                  .seconds = 0.5,
                                  .tokens_per_second = 32768,
                                  .memory_bytes = int64_t{3} << 29})
                  .ok());
  EXPECT_EQ(out.str(), "validate step:   7  loss:  6.50000  memory:  1.50GiB  tps: 32,768\n");
}

TEST(ConsoleTest, ShareOfMemoryAndPeakWhenKnown) {
  StepMetrics metrics = Step(1);
  metrics.mfu = 0.4321;
  const std::string line =
      LineOf(metrics, {.log_freq = 1, .total_steps = 10, .memory_capacity_bytes = int64_t{3} << 30});
  EXPECT_THAT(line, HasSubstr("memory:  1.50GiB(50.00%)"));
  EXPECT_THAT(line, HasSubstr("mfu: 43.21%"));
}

TEST(ConsoleTest, EscapesOnlyWithColor) {
  EXPECT_THAT(LineOf(Step(1), {.log_freq = 1, .total_steps = 10}), Not(HasSubstr("\x1b")));
  const std::string colored = LineOf(Step(1), {.log_freq = 1, .total_steps = 10, .color = true});
  EXPECT_THAT(colored, HasSubstr("\x1b[32mloss:  7.62345\x1b[0m"));
}

TEST(ConsoleTest, LogsEveryNthStepAndTheLast) {
  std::ostringstream out;
  Console console(out, {.log_freq = 4, .total_steps = 10});
  for (int64_t step = 1; step <= 10; ++step) ASSERT_TRUE(console.Log(Step(step)).ok());
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);  // 1, 4, 8, 10
  EXPECT_THAT(text, HasSubstr("step:  8"));
  EXPECT_THAT(text, HasSubstr("step: 10"));
  EXPECT_THAT(text.substr(text.find("step: 10")), Not(HasSubstr("left:")));
}

TEST(ConsoleTest, NonFiniteValuesAreShown) {
  StepMetrics metrics = Step(1);
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.tokens_per_second = std::numeric_limits<double>::infinity();
  EXPECT_THAT(LineOf(metrics, {.log_freq = 1, .total_steps = 10}), HasSubstr("loss:      nan"));
}

TEST(ConsoleTest, HeaderAndSummary) {
  std::ostringstream out;
  Console console(out, {.log_freq = 10, .total_steps = 2});
  console.Header("llama3/debug", {{"model", "llama3 debugmodel"}, {"digest", "abc"}});
  StepMetrics metrics = Step(1);
  ASSERT_TRUE(console.Log(metrics).ok());
  metrics = Step(2);
  metrics.loss = 4.5;
  ASSERT_TRUE(console.Log(metrics).ok());
  console.Summary("done", {{"report", "out/report.html"}});
  EXPECT_THAT(out.str(), HasSubstr("llama3/debug\n  model   llama3 debugmodel\n  digest  abc\n"));
  EXPECT_THAT(out.str(), HasSubstr("done: 2 steps, 32,768 tokens in 4.0 s, loss 7.62345 to 4.50000\n"
                                   "  report  out/report.html\n"));
}

TEST(ConsoleTest, SummaryWithoutASingleStep) {
  std::ostringstream out;
  Console console(out, {.log_freq = 10, .total_steps = 2});
  console.Summary("stopped", {});
  EXPECT_THAT(out.str(), HasSubstr("stopped: 0 steps"));
  EXPECT_THAT(out.str(), Not(HasSubstr("loss")));
}

}  // namespace
}  // namespace titan
