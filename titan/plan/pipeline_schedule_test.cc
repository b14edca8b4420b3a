#include "titan/plan/pipeline_schedule.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

PipelineSchedule Make(PipelineScheduleKind kind, int64_t ranks, int64_t stages, int64_t microbatches) {
  absl::StatusOr<PipelineSchedule> schedule = MakePipelineSchedule(kind, ranks, stages, microbatches);
  EXPECT_TRUE(schedule.ok()) << schedule.status();
  return schedule.ok() ? *schedule : PipelineSchedule();
}

std::string Problem(PipelineScheduleKind kind, int64_t ranks, int64_t stages, int64_t microbatches) {
  const absl::StatusOr<PipelineSchedule> schedule = MakePipelineSchedule(kind, ranks, stages, microbatches);
  EXPECT_EQ(schedule.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(schedule.status().message());
}

class EveryScheduleTest : public testing::TestWithParam<std::tuple<PipelineScheduleKind, int64_t>> {
 protected:
  // Of each kind and number of ranks: as few and as many stages and microbatches as one would take, and odd ones.
  static std::vector<PipelineSchedule> Schedules() {
    const auto [kind, ranks] = GetParam();
    std::vector<PipelineSchedule> schedules;
    for (const int64_t per_rank : {1, 2, 3}) {
      if (HasOneStagePerRank(kind) != (per_rank == 1) || (HasVPlacement(kind) && per_rank != 2)) continue;
      for (const int64_t microbatches : {int64_t{1}, ranks - 1, ranks, ranks + 1, 2 * ranks, 4 * ranks, 8 * ranks}) {
        if (kind == PipelineScheduleKind::kDualPipeV && microbatches < 2 * ranks) continue;
        schedules.push_back(Make(kind, ranks, per_rank * ranks, microbatches));
      }
    }
    return schedules;
  }
};

TEST_P(EveryScheduleTest, PassesTheChecker) {
  for (const PipelineSchedule& schedule : Schedules()) {
    EXPECT_TRUE(CheckPipelineSchedule(schedule).ok()) << CheckPipelineSchedule(schedule) << "\n" << ToCsv(schedule);
  }
}

// What an executor with one channel for activations and one for gradients relies on.
TEST_P(EveryScheduleTest, ReceivesActivationsAndGradientsInTheOrderSent) {
  for (const PipelineSchedule& schedule : Schedules()) {
    for (int64_t to = 0; to < schedule.num_ranks; ++to) {
      int64_t from_others = 0;
      for (int64_t from = 0; from < schedule.num_ranks; ++from) {
        if (from == to) continue;
        const std::vector<PipelineAction> sent = ReceivesInSendOrder(schedule, from, to);
        from_others += sent.size();
        std::map<bool, std::vector<int64_t>> positions;  // by whether it is an activation, in the order sent
        for (const PipelineAction& receive : sent) {
          const auto at = std::find(schedule.actions[to].begin(), schedule.actions[to].end(), receive);
          ASSERT_NE(at, schedule.actions[to].end()) << ToString(receive);
          positions[receive.op == PipelineOp::kForward].push_back(at - schedule.actions[to].begin());
        }
        for (const auto& [activation, order] : positions) {
          EXPECT_TRUE(std::is_sorted(order.begin(), order.end()))
              << schedule.name << ", rank " << from << " to " << to << ", activations: " << activation;
        }
      }
      // Each stage receives each microbatch's activation and gradient, unless a neighbour is on the same rank.
      int64_t expected = 0;
      for (int64_t stage = 0; stage + 1 < schedule.num_stages; ++stage) {
        if (schedule.rank_of_stage[stage] == schedule.rank_of_stage[stage + 1]) continue;
        if (schedule.rank_of_stage[stage] == to) expected += schedule.num_microbatches;
        if (schedule.rank_of_stage[stage + 1] == to) expected += schedule.num_microbatches;
      }
      EXPECT_EQ(from_others, expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryScheduleTest,
                         testing::Combine(testing::ValuesIn(AllPipelineScheduleKinds()), testing::Values(2, 3, 4, 8)),
                         [](const auto& info) {
                           return "Of" + std::string(PipelineScheduleName(std::get<0>(info.param))) + "On" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(PipelineScheduleTest, OneRankRunsAlone) {
  for (const PipelineScheduleKind kind : AllPipelineScheduleKinds()) {
    EXPECT_TRUE(CheckPipelineSchedule(Make(kind, 1, HasOneStagePerRank(kind) ? 1 : 2, 3)).ok());
  }
}

TEST(PipelineScheduleTest, GPipe) {
  EXPECT_EQ(ToCsv(Make(PipelineScheduleKind::kGPipe, 2, 2, 3)),
            "0F0,0F1,0F2,0B0,0B1,0B2\n"
            "1F0,1F1,1F2,1B0,1B1,1B2\n");
}

// Figure 4 of arXiv:2104.04473 begins like this on 4 ranks.
TEST(PipelineScheduleTest, OneForwardOneBackward) {
  EXPECT_EQ(ToCsv(Make(PipelineScheduleKind::k1F1B, 4, 4, 5)),
            "0F0,0F1,0F2,0F3,0B0,0F4,0B1,0B2,0B3,0B4\n"
            "1F0,1F1,1F2,1B0,1F3,1B1,1F4,1B2,1B3,1B4\n"
            "2F0,2F1,2B0,2F2,2B1,2F3,2B2,2F4,2B3,2B4\n"
            "3F0,3B0,3F1,3B1,3F2,3B2,3F3,3B3,3F4,3B4\n");
}

TEST(PipelineScheduleTest, Interleaved) {
  EXPECT_EQ(ToCsv(Make(PipelineScheduleKind::kInterleaved1F1B, 2, 4, 4)),
            "0F0,0F1,2F0,2F1,0F2,2B0,0F3,2B1,2F2,0B0,2F3,0B1,2B2,2B3,0B2,0B3\n"
            "1F0,1F1,3F0,3B0,3F1,3B1,1F2,1B0,1F3,1B1,3F2,3B2,3F3,3B3,1B2,1B3\n");
}

TEST(PipelineScheduleTest, LoopedBFS) {
  EXPECT_EQ(ToCsv(Make(PipelineScheduleKind::kLoopedBFS, 2, 4, 2)),
            "0F0,0F1,2F0,2F1,2B1,2B0,0B1,0B0\n"
            "1F0,1F1,3F0,3F1,3B1,3B0,1B1,1B0\n");
}

// The lines of ranks 1 and 3 are those of torch's own example of this size.
TEST(PipelineScheduleTest, DualPipeVIsTorchs) {
  const std::vector<std::string> lines = absl::StrSplit(ToCsv(Make(PipelineScheduleKind::kDualPipeV, 4, 8, 10)), '\n');
  EXPECT_EQ(lines[1],
            "1F0,1F1,1F2,1F3,1F4,6F0,1F5,6F1,6I0,6W0,6F2,6I1,6W1,6F3,1F6,6B2,6F4,1B0,1F7,6B3,6F5,1B1,1F8,6B4,6F6,1B2,"
            "1F9,6B5,6F7,1B3,6B6,6F8,1B4,6B7,6F9,1B5,6B8,1B6,6I9,1I7,6W9,1I8,1W7,1I9,1W8,1W9");
  EXPECT_EQ(lines[3],
            "3F0,4F0,3F1,4F1,3F2,4F2,3F3,4F3,3F4,4B0,4F4,3B0,3F5,4B1,4F5,3B1,3F6,4B2,4F6,3B2,3F7,4B3,4F7,3B3,3F8,4B4,"
            "4F8,3B4,3F9,4B5,4F9,3B5,4B6,3B6,4B7,3B7,4I8,3I8,4I9,3I9,4W8,3W8,4W9,3W9");
}

// Likewise.
TEST(PipelineScheduleTest, InterleavedZeroBubbleIsTorchs) {
  EXPECT_EQ(ToCsv(Make(PipelineScheduleKind::kInterleavedZeroBubble, 2, 4, 8)),
            "0F0,0F1,2F0,2F1,2I0,2W0,0F2,2I1,2W1,0F3,0I0,0W0,2F2,0I1,0W1,2F3,2I2,2W2,0F4,2I3,2W3,0F5,0I2,0W2,2F4,0I3,"
            "0W3,2F5,2I4,2W4,0F6,2I5,2W5,0F7,0I4,0W4,2F6,0I5,0W5,2F7,2I6,2W6,2I7,2W7,0I6,0W6,0I7,0W7\n"
            "1F0,1F1,3F0,3I0,3F1,3I1,3W0,1F2,1I0,3W1,1F3,1I1,1W0,3F2,3I2,1W1,3F3,3I3,3W2,1F4,1I2,3W3,1F5,1I3,1W2,3F4,"
            "3I4,1W3,3F5,3I5,3W4,1F6,1I4,3W5,1F7,1I5,1W4,3F6,3I6,1W5,3F7,3I7,3W6,1I6,3W7,1I7,1W6,1W7\n");
}

TEST(PipelineScheduleTest, PlacementIsALoopOrAV) {
  EXPECT_THAT(Make(PipelineScheduleKind::kInterleaved1F1B, 3, 6, 3).rank_of_stage, ElementsAre(0, 1, 2, 0, 1, 2));
  EXPECT_THAT(Make(PipelineScheduleKind::kZBVZeroBubble, 3, 6, 3).rank_of_stage, ElementsAre(0, 1, 2, 2, 1, 0));
  EXPECT_THAT(Make(PipelineScheduleKind::kDualPipeV, 3, 6, 6).rank_of_stage, ElementsAre(0, 1, 2, 2, 1, 0));
}

TEST(PipelineScheduleTest, SplitBackwardsOnlyWhereTheyHelp) {
  const auto has = [](const PipelineSchedule& schedule, char letter) {
    return ToCsv(schedule).find(letter) != std::string::npos;
  };
  for (const PipelineScheduleKind kind : AllPipelineScheduleKinds()) {
    const PipelineSchedule schedule = Make(kind, 4, HasOneStagePerRank(kind) ? 4 : 8, 8);
    const bool zero_bubble =
        kind == PipelineScheduleKind::kInterleavedZeroBubble || kind == PipelineScheduleKind::kZBVZeroBubble;
    EXPECT_EQ(has(schedule, 'B'), !zero_bubble) << schedule.name;
    EXPECT_EQ(has(schedule, 'I'), zero_bubble || kind == PipelineScheduleKind::kDualPipeV) << schedule.name;
  }
}

// The steady state of DualPipeV: each forward of one stage has a backward of the other right behind it.
TEST(PipelineScheduleTest, DualPipeVPairsForwardAndBackward) {
  const PipelineSchedule schedule = Make(PipelineScheduleKind::kDualPipeV, 4, 8, 16);
  for (int64_t rank = 0; rank < 4; ++rank) {
    int64_t pairs = 0;
    const std::vector<PipelineAction>& actions = schedule.actions[rank];
    for (size_t i = 0; i + 1 < actions.size(); ++i) {
      if (actions[i].op == PipelineOp::kForward && actions[i + 1].op == PipelineOp::kBackward) {
        EXPECT_EQ(actions[i].stage + actions[i + 1].stage, 7);
        ++pairs;
      }
    }
    EXPECT_EQ(pairs, 2 * (16 - 8 + rank + 1) + (3 - rank));
  }
}

TEST(PipelineScheduleTest, RefusesWhatDoesNotGoTogether) {
  EXPECT_THAT(Problem(PipelineScheduleKind::k1F1B, 0, 1, 1), HasSubstr("at least 1 rank, not 0"));
  EXPECT_THAT(Problem(PipelineScheduleKind::k1F1B, 2, 2, 0), HasSubstr("at least 1 microbatch, not 0"));
  EXPECT_THAT(Problem(PipelineScheduleKind::kInterleaved1F1B, 2, 5, 2),
              HasSubstr("number of stages (5) must be a multiple of the number of ranks (2)"));
  EXPECT_THAT(Problem(PipelineScheduleKind::k1F1B, 4, 2, 2), HasSubstr("must be a multiple"));
  EXPECT_THAT(
      Problem(PipelineScheduleKind::kGPipe, 2, 4, 2),
      AllOf(HasSubstr("GPipe: takes exactly 1 stage per rank, not 2"), HasSubstr("raise pipeline_parallel_la")));
  EXPECT_THAT(Problem(PipelineScheduleKind::kLoopedBFS, 2, 2, 2),
              HasSubstr("LoopedBFS: takes at least 2 stages per rank, not 1"));
  EXPECT_THAT(Problem(PipelineScheduleKind::kZBVZeroBubble, 2, 6, 2),
              HasSubstr("ZBVZeroBubble: takes exactly 2 stages per rank, not 3"));
  EXPECT_THAT(Problem(PipelineScheduleKind::kDualPipeV, 4, 8, 7),
              HasSubstr("DualPipeV: takes at least as many microbatches as stages (8), not 7"));
  EXPECT_THAT(Problem(PipelineScheduleKind::kInterleaved1F1B, 4, 8, 11),
              HasSubstr("in 2 rounds (11 microbatches / 4 ranks, rounded down), which does not divide the 11"));
}

TEST(PipelineScheduleTest, NamesAreTorchtitans) {
  std::vector<std::string_view> names;
  for (const PipelineScheduleKind kind : AllPipelineScheduleKinds()) names.push_back(PipelineScheduleName(kind));
  EXPECT_THAT(names, ElementsAre("GPipe", "1F1B", "Interleaved1F1B", "LoopedBFS", "InterleavedZeroBubble",
                                 "ZBVZeroBubble", "DualPipeV"));
}

TEST(PipelineScheduleTest, ForwardsAloneGoThroughTheStagesWhereTheyLie) {
  const PipelineSchedule looped = ForwardOnlySchedule(Make(PipelineScheduleKind::kLoopedBFS, 2, 4, 3), 2);
  EXPECT_EQ(ToCsv(looped), "0F0,0F1,2F0,2F1\n1F0,1F1,3F0,3F1\n");
  const PipelineSchedule v = ForwardOnlySchedule(Make(PipelineScheduleKind::kZBVZeroBubble, 2, 4, 4), 1);
  EXPECT_EQ(ToCsv(v), "0F0,3F0\n1F0,2F0\n");
}

// What a rank sends to another is what that one waits for, in the same order.
TEST_P(EveryScheduleTest, ForwardsAloneAreReceivedInTheOrderOfSending) {
  for (const PipelineSchedule& schedule : Schedules()) {
    const PipelineSchedule forward = ForwardOnlySchedule(schedule, 3);
    for (int64_t to = 0; to < forward.num_ranks; ++to) {
      std::map<int64_t, std::vector<PipelineAction>> waited_for;
      for (const PipelineAction& action : forward.actions[to]) {
        const int64_t from = action.stage == 0 ? to : forward.rank_of_stage[action.stage - 1];
        if (from != to) waited_for[from].push_back(action);
      }
      for (int64_t from = 0; from < forward.num_ranks; ++from) {
        if (from == to) continue;
        EXPECT_EQ(ReceivesInSendOrder(forward, from, to), waited_for[from]) << schedule.name;
      }
    }
  }
}

TEST(PipelineScheduleTest, ReceivesAreNamedAsTheReceiverRunsThem) {
  const PipelineSchedule schedule =
      ParsePipelineScheduleCsv("0F0,0F1,0I0,0W0,0B1\n1F0,1B0,1F1,1I1,1W1\n", 2, 2, 2).value();
  EXPECT_THAT(ReceivesInSendOrder(schedule, 0, 1),
              ElementsAre(PipelineAction{PipelineOp::kForward, 1, 0}, PipelineAction{PipelineOp::kForward, 1, 1}));
  EXPECT_THAT(ReceivesInSendOrder(schedule, 1, 0), ElementsAre(PipelineAction{PipelineOp::kBackwardInput, 0, 0},
                                                               PipelineAction{PipelineOp::kBackward, 0, 1}));
}

}  // namespace
}  // namespace titan
