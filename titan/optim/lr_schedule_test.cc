#include "titan/optim/lr_schedule.h"

#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

config::LrScheduler::DecayType DecayTypeOf(const std::string& name) {
  if (name == "sqrt") return config::LrScheduler::DECAY_TYPE_SQRT;
  if (name == "cosine") return config::LrScheduler::DECAY_TYPE_COSINE;
  return config::LrScheduler::DECAY_TYPE_LINEAR;
}

TEST(LrScheduleTest, EqualsTorchtitan) {
  std::ifstream file("titan/optim/testdata/lr_schedules.json");
  const auto rows = nlohmann::json::parse(file);
  ASSERT_EQ(rows.size(), 8u);
  for (const auto& row : rows) {
    SCOPED_TRACE(row.dump());
    config::LrScheduler config;
    config.set_warmup_steps(row["warmup"]);
    if (!row["decay_ratio"].is_null()) config.set_decay_ratio(row["decay_ratio"]);
    config.set_decay_type(DecayTypeOf(row["decay_type"]));
    config.set_min_lr_factor(row["min_lr_factor"]);
    const LrSchedule schedule(config, row["total"]);
    ASSERT_FALSE(row["factors"].empty());
    int64_t step = 0;
    for (const double expected : row["factors"]) EXPECT_NEAR(schedule.Factor(step++), expected, 1e-15) << step - 1;
  }
}

TEST(LrScheduleTest, TotalStepsOverridesTheLengthOfTheRun) {
  config::LrScheduler config;
  config.set_warmup_steps(0);
  config.set_total_steps(10);
  const LrSchedule schedule(config, /*training_steps=*/3);
  EXPECT_DOUBLE_EQ(schedule.Factor(5), LrSchedule(config, 10).Factor(5));
  EXPECT_DOUBLE_EQ(schedule.Factor(5), 0.5);
}

// 0.5 and 2.5 steps of decay round to 0 and 2, 1.5 to 2: Python's round().
TEST(LrScheduleTest, RoundsHalfToEven) {
  config::LrScheduler config;
  config.set_warmup_steps(0);
  config.set_decay_ratio(0.5);
  EXPECT_EQ(LrSchedule(config, 1).Factor(0), 1);
  EXPECT_EQ(LrSchedule(config, 3).Factor(2), 0.5);
  EXPECT_EQ(LrSchedule(config, 5).Factor(3), 1);
  EXPECT_EQ(LrSchedule(config, 5).Factor(4), 0.5);
}

TEST(LrScheduleTest, StaysAtTheMinimumBeyondTheEnd) {
  config::LrScheduler config;
  config.set_warmup_steps(2);
  config.set_min_lr_factor(0.1);
  EXPECT_DOUBLE_EQ(LrSchedule(config, 10).Factor(10), 0.1);
  EXPECT_DOUBLE_EQ(LrSchedule(config, 10).Factor(1000), 0.1);
}

}  // namespace
}  // namespace titan
