// Each way of breaking a good schedule, and what the checker says.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/plan/pipeline_schedule.h"

namespace titan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Problem(const PipelineSchedule& schedule) {
  const absl::Status status = CheckPipelineSchedule(schedule);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << ToCsv(schedule);
  return std::string(status.message());
}

std::string Problem(std::string_view csv, int64_t ranks, int64_t stages, int64_t microbatches) {
  return Problem(ParsePipelineScheduleCsv(csv, ranks, stages, microbatches).value());
}

PipelineSchedule Good() { return MakePipelineSchedule(PipelineScheduleKind::k1F1B, 2, 2, 3).value(); }

int64_t Find(const std::vector<PipelineAction>& actions, const std::string& name) {
  for (size_t i = 0; i < actions.size(); ++i) {
    if (ToString(actions[i]) == name) return i;
  }
  ADD_FAILURE() << "no " << name;
  return 0;
}

TEST(PipelineCheckTest, SwappedForwardAndBackwardOfOneMicrobatch) {
  PipelineSchedule schedule = Good();  // rank 1: 1F0,1B0,...
  std::swap(schedule.actions[1][0], schedule.actions[1][1]);
  EXPECT_THAT(Problem(schedule), HasSubstr("1F1B: rank 1, action 1 (1B0) comes before what it needs, 1F0, action 2"));
}

// Rank 1 runs all forwards first, rank 0 sends the third only after the first backward.
TEST(PipelineCheckTest, DeadlockNamesWhoWaitsForWhom) {
  EXPECT_THAT(Problem("0F0,0F1,0B0,0F2,0B1,0B2\n1F0,1F1,1F2,1B0,1B1,1B2\n", 2, 2, 3),
              AllOf(HasSubstr("deadlock: rank 0, action 3 (0B0) waits for rank 1, action 4 (1B0)"),
                    HasSubstr("; rank 1, action 3 (1F2) waits for rank 0, action 4 (0F2)")));
}

TEST(PipelineCheckTest, DeadlockOfOneRankWithItself) {
  EXPECT_THAT(Problem("1F0,0F0,1B0,0B0\n", 1, 2, 1),
              HasSubstr("deadlock: rank 0, action 1 (1F0) waits for rank 0, action 2 (0F0)"));
}

TEST(PipelineCheckTest, DroppedBackward) {
  PipelineSchedule schedule = Good();
  schedule.actions[0].pop_back();
  EXPECT_THAT(Problem(schedule), HasSubstr("rank 0 lacks the backward 0B2 (or 0I2 and 0W2)"));
}

TEST(PipelineCheckTest, DroppedForward) {
  PipelineSchedule schedule = Good();
  schedule.actions[1].erase(schedule.actions[1].begin());
  EXPECT_THAT(Problem(schedule), HasSubstr("the forward 1F0 is missing on rank 1"));
}

TEST(PipelineCheckTest, DoubledForward) {
  PipelineSchedule schedule = Good();
  schedule.actions[0].push_back(schedule.actions[0].front());
  EXPECT_THAT(Problem(schedule), HasSubstr("0F0 must run once, but rank 0 has it as actions 1 and 7"));
}

TEST(PipelineCheckTest, SplitBackwards) {
  EXPECT_TRUE(CheckPipelineSchedule(ParsePipelineScheduleCsv("0F0,0I0,0W0\n1F0,1B0\n", 2, 2, 1).value()).ok());
  EXPECT_THAT(Problem("0F0,0I0\n1F0,1B0\n", 2, 2, 1), HasSubstr("rank 0 lacks 0W0"));
  EXPECT_THAT(Problem("0F0,0W0\n1F0,1B0\n", 2, 2, 1), HasSubstr("rank 0 lacks 0I0"));
  EXPECT_THAT(Problem("0F0,0W0,0I0\n1F0,1B0\n", 2, 2, 1),
              HasSubstr("rank 0, action 2 (0W0) comes before what it needs, 0I0, action 3"));
  EXPECT_THAT(Problem("0F0,0B0,0W0\n1F0,1B0\n", 2, 2, 1),
              HasSubstr("the full backward 0B0 and also 0W0; it is either 0B0 or 0I0 and 0W0"));
  EXPECT_THAT(Problem("0F0,0I0,0W0,0I0\n1F0,1B0\n", 2, 2, 1), HasSubstr("0I0 must run once"));
}

TEST(PipelineCheckTest, ActionsOutOfPlace) {
  PipelineSchedule schedule = Good();
  schedule.actions[0][2].stage = 1;
  EXPECT_THAT(Problem(schedule), HasSubstr("rank 0, action 3 (1B0): stage 1 is on rank 1"));
  schedule.actions[0][2].stage = 2;
  EXPECT_THAT(Problem(schedule), HasSubstr("rank 0, action 3 (2B0): there are the stages 0 to 1"));
  schedule = Good();
  schedule.actions[0][2].microbatch = -1;
  EXPECT_THAT(Problem(schedule), HasSubstr("there are the microbatches 0 to 2"));
}

TEST(PipelineCheckTest, Sizes) {
  PipelineSchedule schedule = Good();
  schedule.actions.pop_back();
  EXPECT_THAT(Problem(schedule), HasSubstr("the actions of 1 ranks, but 2 ranks"));
  schedule = Good();
  schedule.rank_of_stage = {0};
  EXPECT_THAT(Problem(schedule), HasSubstr("places 1 stages, but has 2"));
  schedule.rank_of_stage = {0, 2};
  EXPECT_THAT(Problem(schedule), HasSubstr("stage 1 is on rank 2, of ranks 0 to 1"));
  schedule.rank_of_stage = {0, 0};
  EXPECT_THAT(Problem(schedule), HasSubstr("rank 1 has no stage"));
  EXPECT_THAT(Problem(PipelineSchedule()), HasSubstr("at least 1 rank"));
}

// In every schedule: without any one action, or with a backward before its forward, it is refused.
TEST(PipelineCheckTest, EveryActionOfEveryScheduleCounts) {
  for (const PipelineScheduleKind kind : AllPipelineScheduleKinds()) {
    const PipelineSchedule good = MakePipelineSchedule(kind, 3, HasOneStagePerRank(kind) ? 3 : 6, 6).value();
    for (int64_t rank = 0; rank < 3; ++rank) {
      const std::vector<PipelineAction>& actions = good.actions[rank];
      for (size_t i = 0; i < actions.size(); ++i) {
        PipelineSchedule broken = good;
        broken.actions[rank].erase(broken.actions[rank].begin() + i);
        EXPECT_THAT(Problem(broken), HasSubstr(absl::StrCat(good.name, ":")));
        if (actions[i].op != PipelineOp::kForward) continue;
        broken = good;
        const PipelineAction forward = actions[i];
        const std::string microbatch = std::to_string(forward.microbatch);
        const bool full = std::count(actions.begin(), actions.end(),
                                     PipelineAction{PipelineOp::kBackward, forward.stage, forward.microbatch}) > 0;
        const int64_t backward = Find(actions, absl::StrCat(forward.stage, full ? "B" : "I", microbatch));
        std::swap(broken.actions[rank][i], broken.actions[rank][backward]);
        EXPECT_THAT(Problem(broken), HasSubstr("comes before what it needs"));
      }
    }
  }
}

}  // namespace
}  // namespace titan
