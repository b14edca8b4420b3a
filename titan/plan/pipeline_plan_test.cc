#include "titan/plan/pipeline_plan.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

BlockSpec Block(BlockKind kind, std::string name) {
  BlockSpec block;
  block.kind = kind;
  block.name = std::move(name);
  return block;
}

ModelSpec Model() {
  ModelSpec spec;
  spec.blocks.push_back(Block(BlockKind::kEmbedding, "tok_embeddings"));
  for (int64_t i = 0; i < 6; ++i) {
    spec.blocks.push_back(Block(BlockKind::kLayer, absl::StrCat("layers.", i)));
  }
  spec.blocks.push_back(Block(BlockKind::kHead, "head"));
  return spec;
}

config::Parallelism TwoRanks() {
  config::Parallelism parallelism;
  parallelism.set_pipeline_parallel_degree(2);
  return parallelism;
}

TEST(PipelinePlanTest, EveryScheduleOfTheConfigurationByItsName) {
  const auto* values = config::Parallelism::PipelineSchedule_descriptor();
  ASSERT_EQ(values->value_count(), static_cast<int>(AllPipelineScheduleKinds().size()));
  for (int i = 0; i < values->value_count(); ++i) {
    config::Parallelism parallelism = TwoRanks();
    parallelism.set_pipeline_parallel_schedule(
        static_cast<config::Parallelism::PipelineSchedule>(values->value(i)->number()));
    const PipelinePlan plan = PlanPipeline(parallelism, Model(), 8, "").value();
    EXPECT_EQ(plan.schedule.name, values->value(i)->options().GetExtension(config::value).name());
    EXPECT_EQ(plan.schedule.num_stages, static_cast<int64_t>(plan.stages.size()));
    EXPECT_EQ(plan.schedule.num_microbatches, 8);
  }
}

TEST(PipelinePlanTest, DefaultsAreTorchtitans) {
  const PipelinePlan plan = PlanPipeline(TwoRanks(), Model(), 4, "").value();
  EXPECT_EQ(plan.schedule.name, "1F1B");
  EXPECT_THAT(plan.stages, ElementsAre(StageRange{0, 4}, StageRange{4, 8}));
}

TEST(PipelinePlanTest, EveryFieldOfTheSplitCounts) {
  config::Parallelism parallelism = TwoRanks();
  parallelism.set_pipeline_parallel_first_stage_less_layers(0);
  parallelism.set_pipeline_parallel_last_stage_less_layers(2);
  EXPECT_THAT(PlanPipeline(parallelism, Model(), 4, "").value().stages,
              ElementsAre(StageRange{0, 5}, StageRange{5, 8}));
  parallelism.set_pipeline_parallel_schedule(config::Parallelism::PIPELINE_SCHEDULE_LOOPED_BFS);
  parallelism.set_pipeline_parallel_layers_per_stage(2);
  EXPECT_EQ(PlanPipeline(parallelism, Model(), 4, "").value().stages.size(), 4u);
  parallelism.add_module_fqns_per_model_part("tok_embeddings,layers.0,layers.1,layers.2");
  EXPECT_THAT(PlanPipeline(parallelism, Model(), 4, "").status().message(), HasSubstr("module_fqns_per_model_part"));
}

TEST(PipelinePlanTest, ScheduleFromCsvIsCheckedToo) {
  EXPECT_EQ(PlanPipeline(TwoRanks(), Model(), 1, "0F0,0B0\n1F0,1B0\n").value().schedule.name, "CSV");
  EXPECT_THAT(PlanPipeline(TwoRanks(), Model(), 1, "0F0,0X0\n1F0,1B0\n").status().message(),
              HasSubstr("line 1, cell 2"));
  EXPECT_THAT(PlanPipeline(TwoRanks(), Model(), 1, "0F0\n1F0,1B0\n").status().message(),
              HasSubstr("lacks the backward"));
}

}  // namespace
}  // namespace titan
