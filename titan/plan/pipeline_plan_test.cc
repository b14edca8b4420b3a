#include "titan/plan/pipeline_plan.h"

#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"

namespace titan {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// 6 layers on 2 ranks.
config::Experiment TwoRanks(int64_t microbatches) {
  const auto experiment = ReadExperiment(
      R"({
    "model": {"name": "llama3", "dim": 16, "n_layers": 6, "n_heads": 2, "ffn_hidden_dim": 24, "vocab_size": 32},
    "data": {"sources": [{"corpus": "synthetic"}]},
    "parallelism": {"pipeline_parallel_degree": 2},
    "cluster": {"devices_per_node": 2}
  })",
      {.source_name = "test", .overrides = {absl::StrCat("training.local_batch_size=", microbatches)}});
  EXPECT_TRUE(experiment.ok()) << experiment.status();
  return *experiment;
}

absl::StatusOr<PipelinePlan> Plan(const config::Experiment& experiment, std::string_view csv = "") {
  return PlanPipeline(experiment, BuildModelSpec(experiment.model()).value(), csv);
}

TEST(PipelinePlanTest, EveryScheduleOfTheConfigurationByItsName) {
  const auto* values = config::Parallelism::PipelineSchedule_descriptor();
  ASSERT_EQ(values->value_count(), static_cast<int>(AllPipelineScheduleKinds().size()));
  for (int i = 0; i < values->value_count(); ++i) {
    config::Experiment experiment = TwoRanks(8);
    experiment.mutable_parallelism()->set_pipeline_parallel_schedule(
        static_cast<config::Parallelism::PipelineSchedule>(values->value(i)->number()));
    const PipelinePlan plan = Plan(experiment).value();
    EXPECT_EQ(plan.schedule.name, values->value(i)->options().GetExtension(config::value).name());
    EXPECT_EQ(plan.schedule.num_stages, static_cast<int64_t>(plan.stages.size()));
    EXPECT_EQ(plan.schedule.num_microbatches, 8);
  }
}

TEST(PipelinePlanTest, DefaultsAreTorchtitans) {
  const PipelinePlan plan = Plan(TwoRanks(4)).value();
  EXPECT_EQ(plan.schedule.name, "1F1B");
  EXPECT_THAT(plan.stages, ElementsAre(StageRange{0, 4}, StageRange{4, 8}));
}

TEST(PipelinePlanTest, EveryFieldOfTheSplitCounts) {
  config::Experiment experiment = TwoRanks(4);
  config::Parallelism& parallelism = *experiment.mutable_parallelism();
  parallelism.set_pipeline_parallel_first_stage_less_layers(0);
  parallelism.set_pipeline_parallel_last_stage_less_layers(2);
  EXPECT_THAT(Plan(experiment).value().stages, ElementsAre(StageRange{0, 5}, StageRange{5, 8}));
  parallelism.set_pipeline_parallel_schedule(config::Parallelism::PIPELINE_SCHEDULE_LOOPED_BFS);
  parallelism.set_pipeline_parallel_layers_per_stage(2);
  EXPECT_EQ(Plan(experiment).value().stages.size(), 4u);
  parallelism.add_module_fqns_per_model_part("tok_embeddings,layers.0,layers.1,layers.2");
  EXPECT_THAT(Plan(experiment).status().message(), HasSubstr("module_fqns_per_model_part"));
}

TEST(PipelinePlanTest, ScheduleFromCsvIsCheckedToo) {
  config::Experiment experiment = TwoRanks(1);
  experiment.mutable_parallelism()->set_pipeline_parallel_schedule_csv("mine.csv");
  EXPECT_EQ(Plan(experiment, "0F0,0B0\n1F0,1B0\n").value().schedule.name, "CSV");
  const auto refusal = [&](std::string_view csv) { return std::string(Plan(experiment, csv).status().message()); };
  EXPECT_THAT(refusal("0F0,0X0\n1F0,1B0\n"), AllOf(HasSubstr("_csv: mine.csv: "), HasSubstr("line 1, cell 2")));
  EXPECT_THAT(refusal("0F0\n1F0,1B0\n"), AllOf(HasSubstr("_csv: mine.csv: "), HasSubstr("lacks the backward")));
  EXPECT_THAT(refusal(""), HasSubstr("has 1 lines for 2 ranks"));
}

}  // namespace
}  // namespace titan
