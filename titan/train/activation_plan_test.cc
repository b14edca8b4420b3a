#include "titan/train/activation_plan.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

ModelSpec SpecOf(size_t layers) {
  ModelSpec spec;
  spec.blocks.resize(layers + 2);
  for (BlockSpec& block : spec.blocks) block.kind = BlockKind::kLayer;
  spec.blocks.front().kind = BlockKind::kEmbedding;
  spec.blocks.back().kind = BlockKind::kHead;
  return spec;
}

config::ActivationCheckpoint Config(config::ActivationCheckpoint::Mode mode, const char* option = "2",
                                    int64_t offload_layers = 0) {
  config::ActivationCheckpoint config;
  config.set_mode(mode);
  config.set_selective_ac_option(option);
  config.set_offload_layers(offload_layers);
  return config;
}

constexpr auto kNone = config::ActivationCheckpoint::MODE_NONE, kFull = config::ActivationCheckpoint::MODE_FULL,
               kSelective = config::ActivationCheckpoint::MODE_SELECTIVE;
constexpr auto kNothing = Recompute::kNothing, kAll = Recompute::kAll, kElementwise = Recompute::kElementwise;

// The layers, by their own numbers.
std::vector<size_t> Offloaded(const ActivationPlan& plan) {
  std::vector<size_t> layers;
  for (size_t block = 0; block < plan.offloaded.size(); ++block) {
    if (plan.offloaded[block]) layers.push_back(block - 1);
  }
  return layers;
}

TEST(ActivationPlanTest, RecomputesLayersAlone) {
  EXPECT_THAT(PlanActivations(Config(kNone), SpecOf(3)).recompute, Each(kNothing));
  EXPECT_THAT(PlanActivations(Config(kFull), SpecOf(3)).recompute, ElementsAre(kNothing, kAll, kAll, kAll, kNothing));
  EXPECT_THAT(PlanActivations(Config(kSelective, "2"), SpecOf(4)).recompute,
              ElementsAre(kNothing, kNothing, kAll, kNothing, kAll, kNothing));
  EXPECT_THAT(PlanActivations(Config(kSelective, "op"), SpecOf(1)).recompute,
              ElementsAre(kNothing, Recompute::kCheap, kNothing));
  const ActivationPlan elementwise = PlanActivations(Config(kSelective, "elementwise"), SpecOf(1));
  EXPECT_THAT(elementwise.recompute, ElementsAre(kNothing, kElementwise, kNothing));
  EXPECT_THAT(elementwise.offloaded, Each(false));
  EXPECT_EQ(elementwise.offload_lag, 0);
}

TEST(ActivationPlanTest, OffloadsEvenlyAndLeavesTheLastLayer) {
  const ActivationPlan ten = PlanActivations(Config(kNone, "2", 10), SpecOf(32));
  EXPECT_THAT(Offloaded(ten), ElementsAre(0, 3, 6, 9, 12, 15, 18, 21, 24, 27));
  EXPECT_EQ(ten.offload_lag, 4);
  EXPECT_THAT(Offloaded(PlanActivations(Config(kNone, "2", 1), SpecOf(4))), ElementsAre(0));
  const ActivationPlan most = PlanActivations(Config(kNone, "2", 3), SpecOf(4));
  EXPECT_THAT(Offloaded(most), ElementsAre(0, 1, 2));
  EXPECT_EQ(most.offload_lag, 2);
}

TEST(ActivationPlanTest, WhatIsOffloadedDoesNotRunAgain) {
  const ActivationPlan plan = PlanActivations(Config(kSelective, "elementwise", 2), SpecOf(5));
  EXPECT_THAT(Offloaded(plan), ElementsAre(0, 2));
  EXPECT_THAT(plan.recompute,
              ElementsAre(kNothing, kNothing, kElementwise, kNothing, kElementwise, kElementwise, kNothing));
}

}  // namespace
}  // namespace titan
