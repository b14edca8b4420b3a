// Simulated times and activations against the closed forms of the papers.

#include "titan/plan/pipeline_timeline.h"

#include <algorithm>
#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Le;

constexpr double kEps = 1e-12;

PipelineSchedule Make(PipelineScheduleKind kind, int64_t ranks, int64_t microbatches, int64_t stages_per_rank) {
  return MakePipelineSchedule(kind, ranks, ranks * stages_per_rank, microbatches).value();
}

PipelineTimeline Simulate(PipelineScheduleKind kind, int64_t ranks, int64_t microbatches, int64_t stages_per_rank,
                          const PipelineCosts& costs = {}) {
  return SimulatePipeline(Make(kind, ranks, microbatches, stages_per_rank), costs);
}

// arXiv:2104.04473, section 2.2: (p - 1) / m of the ideal time, so (p - 1) / (m + p - 1) of all; for any costs.
TEST(PipelineTimelineTest, BubbleOfOneStagePerRank) {
  for (const PipelineScheduleKind kind : {PipelineScheduleKind::kGPipe, PipelineScheduleKind::k1F1B}) {
    for (const int64_t p : {1, 2, 3, 4, 8}) {
      for (const int64_t m : {1, 2, 5, 8, 32}) {
        const PipelineCosts costs = {.forward = 2, .backward_input = 3, .backward_weight = 2.5};
        const double p_1 = static_cast<double>(p - 1);
        EXPECT_NEAR(Simulate(kind, p, m, 1, costs).bubble_share, p_1 / (static_cast<double>(m) + p_1), kEps)
            << PipelineScheduleName(kind) << " " << p << " " << m;
      }
    }
  }
}

TEST(PipelineTimelineTest, ActivationsOfOneStagePerRank) {
  for (const int64_t p : {1, 2, 4, 8}) {
    for (const int64_t m : {1, 3, 8, 32}) {
      EXPECT_THAT(Simulate(PipelineScheduleKind::kGPipe, p, m, 1).peak_activations, Each(m));
      const std::vector<int64_t> peak = Simulate(PipelineScheduleKind::k1F1B, p, m, 1).peak_activations;
      for (int64_t r = 0; r < p; ++r) EXPECT_EQ(peak[r], std::min(p - r, m));
    }
  }
}

// arXiv:2104.04473, section 2.2: v stages per rank divide the bubble by v.
TEST(PipelineTimelineTest, BubbleOfLoops) {
  for (const PipelineScheduleKind kind : {PipelineScheduleKind::kInterleaved1F1B, PipelineScheduleKind::kLoopedBFS}) {
    for (const int64_t p : {2, 3, 4, 8}) {
      for (const int64_t rounds : {1, 2, 4}) {
        for (const int64_t v : {2, 3}) {
          const PipelineCosts costs = {.forward = 2, .backward_input = 3, .backward_weight = 2.5};
          const double p_1 = static_cast<double>(p - 1);
          EXPECT_NEAR(Simulate(kind, p, rounds * p, v, costs).bubble_share,
                      p_1 / (static_cast<double>(v * rounds * p) + p_1), kEps)
              << PipelineScheduleName(kind) << " " << p << " " << rounds << " " << v;
        }
      }
    }
  }
}

// arXiv:2104.04473's warm-up, and the forward that follows it.
TEST(PipelineTimelineTest, ActivationsOfLoops) {
  EXPECT_THAT(Simulate(PipelineScheduleKind::kInterleaved1F1B, 4, 8, 2).peak_activations, ElementsAre(11, 9, 7, 5));
  EXPECT_THAT(Simulate(PipelineScheduleKind::kLoopedBFS, 4, 8, 2).peak_activations, Each(16));
}

// arXiv:2401.10241: ZB-H1's bubble is (p - 1) (F + B - W) with the memory of 1F1B, here for each of the
// v times shorter stages.
TEST(PipelineTimelineTest, InterleavedZeroBubble) {
  for (const int64_t p : {2, 3, 4, 8}) {
    for (const int64_t rounds : {2, 4}) {
      for (const int64_t v : {2, 3}) {
        const PipelineTimeline timeline = Simulate(PipelineScheduleKind::kInterleavedZeroBubble, p, rounds * p, v);
        EXPECT_NEAR(timeline.duration, static_cast<double>(3 * v * rounds * p + (p - 1)), kEps);
        EXPECT_THAT(timeline.peak_activations, Each(v * p));
      }
    }
  }
}

// arXiv:2405.15362 and arXiv:2401.10241: with equal costs only the way down the first p stages is idle, and
// each rank holds no more than 1F1B's first.
TEST(PipelineTimelineTest, ZBV) {
  for (const int64_t p : {2, 3, 4, 8}) {
    for (const int64_t m : {2 * p, 4 * p, 4 * p + 1}) {
      const PipelineTimeline timeline = Simulate(PipelineScheduleKind::kZBVZeroBubble, p, m, 2);
      EXPECT_NEAR(timeline.duration, static_cast<double>(6 * m + (p - 1)), kEps);
      EXPECT_THAT(timeline.peak_activations, Each(2 * p));
    }
  }
}

TEST(PipelineTimelineTest, SplitBackwardsShortenTheBubble) {
  for (const int64_t p : {2, 3, 4, 8}) {
    for (const int64_t m : {2 * p, 4 * p}) {
      const double one = Simulate(PipelineScheduleKind::k1F1B, p, m, 1).bubble_share;
      const double loop = Simulate(PipelineScheduleKind::kInterleaved1F1B, p, m, 2).bubble_share;
      EXPECT_LT(loop, one);
      for (const PipelineScheduleKind kind : {PipelineScheduleKind::kInterleavedZeroBubble,
                                              PipelineScheduleKind::kZBVZeroBubble, PipelineScheduleKind::kDualPipeV}) {
        const PipelineTimeline timeline = Simulate(kind, p, m, 2);
        EXPECT_LT(timeline.bubble_share, loop) << PipelineScheduleName(kind) << " " << p << " " << m;
        EXPECT_THAT(timeline.peak_activations, Each(Le(2 * p + 1)));
      }
    }
  }
}

TEST(PipelineTimelineTest, TimesByHand) {
  const PipelineCosts costs = {.forward = 1, .backward_input = 2, .backward_weight = 3, .send = 0.5};
  const PipelineSchedule schedule =
      ParsePipelineScheduleCsv("0F0,0F1,0I0,0I1,0W0,0W1\n1F0,1B0,1F1,1B1\n", 2, 2, 2).value();
  const PipelineTimeline timeline = SimulatePipeline(schedule, costs);
  std::vector<std::vector<double>> starts(2);
  for (int64_t rank = 0; rank < 2; ++rank) {
    for (const PipelineTimeline::Interval& interval : timeline.times[rank]) starts[rank].push_back(interval.start);
  }
  // 1F0 1.5 to 2.5, 1B0 to 7.5, 1F1 to 8.5, 1B1 to 13.5; 0I0 8 to 10, 0I1 14 to 16, 0W0 to 19, 0W1 to 22
  EXPECT_THAT(starts[0], ElementsAre(0, 1, 8, 14, 16, 19));
  EXPECT_THAT(starts[1], ElementsAre(1.5, 2.5, 7.5, 8.5));
  EXPECT_EQ(timeline.duration, 22);
  EXPECT_DOUBLE_EQ(timeline.bubble_share, 1 - 24.0 / 44);
  EXPECT_THAT(timeline.peak_activations, ElementsAre(2, 1));
}

TEST(PipelineTimelineTest, NothingTravelsBetweenStagesOfOneRank) {
  const PipelineCosts costs = {.send = 100};
  EXPECT_EQ(Simulate(PipelineScheduleKind::kZBVZeroBubble, 1, 2, 2, costs).duration, 12);
  // Down, and back again: two messages.
  EXPECT_EQ(Simulate(PipelineScheduleKind::k1F1B, 2, 1, 1, costs).duration, 206);
  // Down to the second rank, its two stages in a row, and up; gradients likewise, with a weight gradient on their way.
  EXPECT_EQ(Simulate(PipelineScheduleKind::kZBVZeroBubble, 2, 1, 2, costs).duration, 5 + 5 + 400);
}

TEST(PipelineTimelineTest, Picture) {
  const auto picture = [](const PipelineSchedule& schedule) {
    return PipelinePicture(schedule, SimulatePipeline(schedule, {}));
  };
  EXPECT_EQ(picture(Make(PipelineScheduleKind::k1F1B, 2, 3, 1)),
            "rank 0  F0F1....B0--F2B1--..B2--\n"
            "rank 1  ..F0B0--F1B1--F2B2--....\n");
  EXPECT_EQ(picture(Make(PipelineScheduleKind::kZBVZeroBubble, 2, 2, 2)),
            "rank 0  F0F1..f0i0w0f1i1w1I0W0..I1W1\n"
            "rank 1  ..F0f0F1f1i0w0I0W0i1w1I1W1..\n");
  EXPECT_EQ(picture(Make(PipelineScheduleKind::kInterleaved1F1B, 1, 1, 3)), "rank 0  0F01F02F02B0---1B0---0B0---\n");
}

}  // namespace
}  // namespace titan
