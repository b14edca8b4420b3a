#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/plan/pipeline_schedule.h"

namespace titan {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Problem(std::string_view text, int64_t ranks = 2, int64_t stages = 2, int64_t microbatches = 2) {
  const absl::StatusOr<PipelineSchedule> schedule = ParsePipelineScheduleCsv(text, ranks, stages, microbatches);
  EXPECT_EQ(schedule.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(schedule.status().message());
}

TEST(PipelineScheduleCsvTest, EveryScheduleComesBack) {
  for (const PipelineScheduleKind kind : AllPipelineScheduleKinds()) {
    const int64_t stages = HasOneStagePerRank(kind) ? 4 : 8;
    const PipelineSchedule schedule = MakePipelineSchedule(kind, 4, stages, 12).value();
    const PipelineSchedule read = ParsePipelineScheduleCsv(ToCsv(schedule), 4, stages, 12).value();
    EXPECT_EQ(read.actions, schedule.actions) << schedule.name;
    EXPECT_EQ(read.rank_of_stage, schedule.rank_of_stage) << schedule.name;
    EXPECT_EQ(ToCsv(read), ToCsv(schedule));
  }
}

TEST(PipelineScheduleCsvTest, EmptyCellsSpacesAndLineEndsOfAnyKind) {
  const PipelineSchedule schedule = ParsePipelineScheduleCsv("0F0,,, 0I0 ,0W0\r\n,1F0,1B0,,\r\n\n", 2, 2, 1).value();
  EXPECT_EQ(ToCsv(schedule), "0F0,0I0,0W0\n1F0,1B0\n");
  EXPECT_TRUE(CheckPipelineSchedule(schedule).ok());
}

TEST(PipelineScheduleCsvTest, TorchsOverlappedPairsAreTwoActions) {
  const std::string_view text = "0F0,(0F1;1B0)OVERLAP_F_B,0B0,1B1,0B1";
  const std::string problem = Problem("0F0,(0F1;1X0)OVERLAP_F_B,0B0", 1, 2, 2);
  EXPECT_THAT(problem, HasSubstr("line 1, cell 2: \"1X0\": not an action"));
  EXPECT_EQ(ToCsv(ParsePipelineScheduleCsv(text, 1, 2, 2).value()), "0F0,0F1,1B0,0B0,1B1,0B1\n");
  EXPECT_THAT(Problem("(0F0)", 1, 1, 1), HasSubstr("\"(0F0)\": not an action"));
}

TEST(PipelineScheduleCsvTest, AnyPlacementThatTheFileHas) {
  const PipelineSchedule schedule = ParsePipelineScheduleCsv("1F0,1B0\n0F0,2F0,2B0,0B0", 2, 3, 1).value();
  EXPECT_THAT(schedule.rank_of_stage, ElementsAre(1, 0, 1));
  EXPECT_TRUE(CheckPipelineSchedule(schedule).ok());
}

TEST(PipelineScheduleCsvTest, ErrorsNameLineAndCell) {
  for (const std::string_view cell :
       {"0X1", "F1", "0F", "0", "0f1", "0F1x", "-1F0", "0F+1", "0FF1", "0SEND_F1", "hello", "99999999999999999999F0"}) {
    EXPECT_THAT(
        Problem(absl::StrCat("0F0,", cell, "\n1F0")),
        AllOf(HasSubstr(absl::StrCat("line 1, cell 2: \"", cell, "\": not an action")), HasSubstr("such as 0F1")));
  }
  EXPECT_THAT(Problem("0F0\n,,2F0"),
              HasSubstr("line 2, cell 3: \"2F0\": stage 2 does not exist; there are 2 stages, 0 to 1"));
  EXPECT_THAT(Problem("0F0\n1B2"),
              HasSubstr("line 2, cell 1: \"1B2\": microbatch 2 does not exist; there are 2, 0 to 1"));
  EXPECT_THAT(Problem("0F0,1F0\n1B0"), HasSubstr("line 2, cell 1: \"1B0\": stage 1 is already on line 1"));
}

TEST(PipelineScheduleCsvTest, LinesAndStagesMustBeThere) {
  EXPECT_THAT(Problem("0F0,1F0\n"), HasSubstr("has 1 lines for 2 ranks"));
  EXPECT_THAT(Problem("0F0\n1F0\n0F1"), HasSubstr("has 3 lines for 2 ranks"));
  EXPECT_THAT(Problem(""), HasSubstr("has 1 lines for 2 ranks"));
  EXPECT_THAT(Problem("0F0\n1F0\n", 2, 4), HasSubstr("stage 2 of 4 is on no line"));
  EXPECT_THAT(Problem("0F0", 0), HasSubstr("at least 1 rank"));
}

}  // namespace
}  // namespace titan
