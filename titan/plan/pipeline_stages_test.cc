#include "titan/plan/pipeline_stages.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

BlockSpec Block(BlockKind kind, std::string name) {
  BlockSpec block;
  block.kind = kind;
  block.name = std::move(name);
  return block;
}

ModelSpec Model(int64_t layers) {
  ModelSpec spec;
  spec.blocks.push_back(Block(BlockKind::kEmbedding, "tok_embeddings"));
  for (int64_t i = 0; i < layers; ++i) {
    spec.blocks.push_back(Block(BlockKind::kLayer, absl::StrCat("layers.", i)));
  }
  spec.blocks.push_back(Block(BlockKind::kHead, "head"));
  return spec;
}

constexpr PipelineScheduleKind kSingle = PipelineScheduleKind::k1F1B;
constexpr PipelineScheduleKind kMulti = PipelineScheduleKind::kInterleaved1F1B;

std::vector<StageRange> Split(int64_t layers, PipelineScheduleKind kind, const StageSplit& split) {
  absl::StatusOr<std::vector<StageRange>> stages = SplitStages(Model(layers), kind, split);
  EXPECT_TRUE(stages.ok()) << stages.status();
  return stages.ok() ? *stages : std::vector<StageRange>();
}

std::string Problem(int64_t layers, PipelineScheduleKind kind, const StageSplit& split) {
  const absl::StatusOr<std::vector<StageRange>> stages = SplitStages(Model(layers), kind, split);
  EXPECT_EQ(stages.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(stages.status().message());
}

// What torchtitan makes of its debug model of 6 layers.
TEST(PipelineStagesTest, TorchtitansDebugModel) {
  EXPECT_THAT(Split(6, kSingle, {.ranks = 2}), ElementsAre(StageRange{0, 4}, StageRange{4, 8}));
  EXPECT_THAT(Split(6, kMulti, {.ranks = 2}),
              ElementsAre(StageRange{0, 2}, StageRange{2, 4}, StageRange{4, 6}, StageRange{6, 8}));
  EXPECT_THAT(Split(6, kMulti, {.ranks = 4}),
              ElementsAre(StageRange{0, 1}, StageRange{1, 2}, StageRange{2, 3}, StageRange{3, 4}, StageRange{4, 5},
                          StageRange{5, 6}, StageRange{6, 7}, StageRange{7, 8}));
}

TEST(PipelineStagesTest, TheFirstStagesTakeWhatIsLeft) {
  // 7 + 2 = 9 on 4 stages: 3, 2, 2, 2.
  EXPECT_THAT(Split(7, kSingle, {.ranks = 4}),
              ElementsAre(StageRange{0, 3}, StageRange{3, 5}, StageRange{5, 7}, StageRange{7, 9}));
}

TEST(PipelineStagesTest, WeightsOfEmbeddingAndHead) {
  // 8 layers, no weights: 4 and 4, the embedding and the head on top.
  EXPECT_THAT(Split(8, kSingle, {.ranks = 2, .first_stage_less_layers = 0, .last_stage_less_layers = 0}),
              ElementsAre(StageRange{0, 5}, StageRange{5, 10}));
  // 8 + 2 + 4 = 14: 7 and 7, so 5 layers first and 3 last.
  EXPECT_THAT(Split(8, kSingle, {.ranks = 2, .first_stage_less_layers = 2, .last_stage_less_layers = 4}),
              ElementsAre(StageRange{0, 6}, StageRange{6, 10}));
  // As heavy as a whole stage: a stage of its own.
  EXPECT_THAT(Split(4, kSingle, {.ranks = 4, .first_stage_less_layers = 2, .last_stage_less_layers = 2}),
              ElementsAre(StageRange{0, 1}, StageRange{1, 3}, StageRange{3, 5}, StageRange{5, 6}));
}

TEST(PipelineStagesTest, OneStageHasAll) {
  EXPECT_THAT(Split(6, kSingle, {.ranks = 1, .last_stage_less_layers = 9}), ElementsAre(StageRange{0, 8}));
}

TEST(PipelineStagesTest, LayersPerStage) {
  EXPECT_EQ(Split(6, kMulti, {.ranks = 2, .layers_per_stage = 1}).size(), 8u);
  EXPECT_EQ(Split(6, kMulti, {.ranks = 2, .layers_per_stage = 2}).size(), 4u);
  EXPECT_EQ(Split(6, kSingle, {.ranks = 2, .layers_per_stage = 4}).size(), 2u);
  EXPECT_THAT(
      Problem(6, kMulti, {.ranks = 3, .layers_per_stage = 2}),
      AllOf(HasSubstr("parallelism.pipeline_parallel_layers_per_stage: 2 makes 4 stages: (6 layers + 1 for the"),
            HasSubstr("multiple of pipeline_parallel_degree (3)")));
  EXPECT_THAT(Problem(6, kSingle, {.ranks = 2, .layers_per_stage = 2}),
              AllOf(HasSubstr("1F1B takes exactly 1 stage per rank"), HasSubstr("raise it to 4")));
  EXPECT_THAT(Problem(6, kMulti, {.ranks = 2, .layers_per_stage = 4}),
              HasSubstr("Interleaved1F1B takes at least 2 stages per rank; lower it"));
}

TEST(PipelineStagesTest, TooFewLayersOrTooMuchWeight) {
  EXPECT_THAT(Problem(5, kMulti, {.ranks = 4}),
              HasSubstr("8 stages are more than the 7 (5 layers + 1 for the embedding + 1 for the head)"));
  EXPECT_THAT(
      Problem(6, kSingle, {.ranks = 2, .first_stage_less_layers = 9}),
      HasSubstr("pipeline_parallel_first_stage_less_layers: 9 is more than the least that a stage gets, 8 = 16 "));
  EXPECT_THAT(
      Problem(6, kSingle, {.ranks = 4, .last_stage_less_layers = 3}),
      HasSubstr("pipeline_parallel_last_stage_less_layers: 3 is more than the least that a stage gets, 2 = 10 "));
  EXPECT_THAT(Problem(6, kSingle, {.ranks = 2, .first_stage_less_layers = -1}), HasSubstr("must not be negative"));
  EXPECT_THAT(Problem(6, kSingle, {.ranks = 0}), HasSubstr("0 is below 1"));
}

TEST(PipelineStagesTest, ByName) {
  const StageSplit split = {
      .ranks = 2, .module_fqns_per_model_part = {"tok_embeddings, layers.0,layers.1", "layers.2,norm,output"}};
  EXPECT_THAT(Split(3, kSingle, split), ElementsAre(StageRange{0, 3}, StageRange{3, 5}));
  EXPECT_THAT(Split(1, kSingle, {.ranks = 2, .module_fqns_per_model_part = {"tok_embeddings", "layers.0,head"}}),
              ElementsAre(StageRange{0, 1}, StageRange{1, 3}));
  EXPECT_THAT(Split(1, kMulti, {.ranks = 1, .module_fqns_per_model_part = {"tok_embeddings,layers.0", "norm,lm_head"}}),
              ElementsAre(StageRange{0, 2}, StageRange{2, 3}));
}

TEST(PipelineStagesTest, ByNameRefuses) {
  const auto problem = [](std::vector<std::string> parts) {
    return Problem(2, kSingle, {.ranks = 2, .module_fqns_per_model_part = std::move(parts)});
  };
  EXPECT_THAT(problem({"tok_embeddings,layers.1", "layers.0,head"}),
              AllOf(HasSubstr("module_fqns_per_model_part: stage 0 has \"layers.1\" where \"layers.0\" is next"),
                    HasSubstr("layers.0 to layers.1, head")));
  EXPECT_THAT(problem({"tok_embeddings,layers.0", "layers.1"}), HasSubstr("no stage has \"head\"; add"));
  EXPECT_THAT(problem({"tok_embeddings", "layers.0"}), HasSubstr("no stage has \"layers.1\" and the 1 blocks behind"));
  EXPECT_THAT(problem({"tok_embeddings,layers.0,layers.1,norm", "output"}),
              HasSubstr("stage 0 has \"norm\" where \"head\" is next"));
  EXPECT_THAT(problem({"tok_embeddings,layers.0,layers.1,head", ""}),
              HasSubstr("stage 1 has \"\" where all blocks are taken"));
  EXPECT_THAT(problem({"tok_embeddings,layers.0,layers.1,head"}), HasSubstr("has 1 stages"));
}

}  // namespace
}  // namespace titan
