#include "titan/plan/plan.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kGib = int64_t{1} << 30;

// The 8B model on one node of eight H100s.
config::Experiment Llama8B() {
  config::Experiment experiment;
  config::Model& model = *experiment.mutable_model();
  model.set_name(config::Model::FAMILY_LLAMA3);
  model.set_flavor("8B");
  model.set_dim(4096);
  model.set_n_layers(32);
  model.set_n_heads(32);
  model.set_n_kv_heads(8);
  model.set_head_dim(128);
  model.set_ffn_hidden_dim(14336);
  model.set_vocab_size(128256);
  experiment.mutable_training()->set_local_batch_size(1);
  experiment.mutable_training()->set_seq_len(8192);
  experiment.mutable_training()->set_steps(1000);
  experiment.mutable_cluster()->set_accelerator(config::Cluster::ACCELERATOR_H100);
  experiment.mutable_cluster()->set_devices_per_node(8);
  return experiment;
}

config::Experiment Debug() {
  config::Experiment experiment;
  config::Model& model = *experiment.mutable_model();
  model.set_name(config::Model::FAMILY_LLAMA3);
  model.set_flavor("debugmodel");
  model.set_dim(256);
  model.set_n_layers(6);
  model.set_n_heads(16);
  model.set_n_kv_heads(16);
  model.set_head_dim(16);
  model.set_ffn_hidden_dim(768);
  model.set_vocab_size(2048);
  experiment.mutable_training()->set_mixed_precision_param(config::Training::DTYPE_FLOAT32);
  return experiment;
}

plan::Plan PlanOf(const config::Experiment& experiment) {
  absl::StatusOr<plan::Plan> plan = BuildPlan(experiment, "llama3/test");
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *plan : plan::Plan();
}

std::vector<std::string> Refusals(const config::Experiment& experiment) {
  const absl::Status status = BuildPlan(experiment, "llama3/test").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return absl::StrSplit(status.message(), '\n');
}

TEST(PlanTest, StatesAndTheirShards) {
  const plan::Plan plan = PlanOf(Llama8B());
  const int64_t parameters = 8'030'261'248;
  EXPECT_EQ(plan.model().parameters(), parameters);
  EXPECT_EQ(plan.memory().whole().weights(), 4 * parameters);
  EXPECT_EQ(plan.memory().whole().gradients(), 4 * parameters);
  EXPECT_EQ(plan.memory().whole().optimizer_state(), 8 * parameters);
  EXPECT_EQ(plan.memory().whole().states(), 16 * parameters);
  EXPECT_EQ(plan.memory().rank().states(), 2 * parameters);  // every row count divides by 8
  // Output projection and final norm in bfloat16.
  EXPECT_EQ(plan.memory().largest_unit(), "head");
  EXPECT_EQ(plan.memory().rank().gathered_weights(), 2 * (128256 * 4096 + 4096));
  EXPECT_EQ(plan.memory().required_bytes(), plan.memory().rank().states() + plan.memory().rank().gathered_weights());
  EXPECT_EQ(plan.memory().left_bytes(), plan.cluster().memory_bytes() - plan.memory().required_bytes());
}

TEST(PlanTest, OptimizerStateFollowsTheParamGroups) {
  config::Experiment experiment = Llama8B();
  const int64_t parameters = 8'030'261'248;
  experiment.mutable_optimizer()->set_state_in_bfloat16(true);
  EXPECT_EQ(PlanOf(experiment).memory().whole().optimizer_state(), 4 * parameters);

  experiment.mutable_optimizer()->set_state_in_bfloat16(false);
  experiment.mutable_optimizer()->set_name(config::Optimizer::NAME_MUON);
  experiment.mutable_optimizer()->add_param_groups()->set_pattern("tok_embeddings|output|norm");
  const plan::Plan plan = PlanOf(experiment);
  const int64_t adamw = 2 * 128256 * 4096 + 65 * 4096;
  EXPECT_EQ(plan.memory().whole().optimizer_state(), 4 * parameters + 4 * adamw);
  EXPECT_EQ(plan.blocks(1).rank().optimizer_state(), 4 * (218'112'000 / 8 + 2 * 4096)) << "the rank with the norms";

  experiment.mutable_optimizer()->add_param_groups()->set_pattern("wqkv");
  EXPECT_THAT(Refusals(experiment), ElementsAre(HasSubstr("optimizer.param_groups.1.pattern: \"wqkv\"")));
}

TEST(PlanTest, BlocksAddUp) {
  const plan::Plan plan = PlanOf(Llama8B());
  ASSERT_EQ(plan.blocks_size(), 34);
  EXPECT_EQ(plan.blocks(1).name(), "layers.0");
  EXPECT_EQ(plan.blocks(1).parameters(), 218'112'000);
  int64_t parameters = 0;
  int64_t states = 0;
  for (const plan::Block& block : plan.blocks()) {
    parameters += block.parameters();
    states += block.rank().states();
  }
  EXPECT_EQ(parameters, plan.model().parameters());
  EXPECT_EQ(states, plan.memory().rank().states());
}

TEST(PlanTest, ShardsAreEqualPartsOfAFlatVector) {
  config::Experiment experiment = Debug();
  experiment.mutable_cluster()->set_devices_per_node(3);
  const int64_t layer = 2 * 256 + 4 * 256 * 256 + 3 * 768 * 256;
  EXPECT_EQ(PlanOf(experiment).blocks(1).parameters_per_rank(), layer / 3);
  experiment.mutable_cluster()->set_devices_per_node(7);
  EXPECT_EQ(PlanOf(experiment).blocks(1).parameters_per_rank(), (layer / 7 / 64 + 1) * 64);  // padded
}

TEST(PlanTest, TensorParallelismSplitsMatricesAndAPipelineBlocks) {
  config::Experiment experiment = Debug();
  experiment.mutable_cluster()->set_devices_per_node(4);
  experiment.mutable_parallelism()->set_tensor_parallel_degree(2);
  experiment.mutable_parallelism()->set_pipeline_parallel_degree(2);
  const plan::Plan plan = PlanOf(experiment);
  const int64_t layer = 2 * 256 + (4 * 256 * 256 + 3 * 768 * 256) / 2;
  EXPECT_EQ(plan.blocks(1).parameters_per_rank(), layer);
  // The last stage has three layers, the norm and the output; the first the embedding instead, without a norm.
  EXPECT_EQ(plan.memory().rank().states(), 16 * (3 * layer + 256 + 2048 * 256 / 2));
}

TEST(PlanTest, ASingleDeviceInFullPrecisionGathersNothing) {
  const plan::Plan plan = PlanOf(Debug());
  EXPECT_EQ(plan.memory().rank().gathered_weights(), 0);
  EXPECT_EQ(plan.memory().rank().states(), 16 * 6'163'712);
  EXPECT_FALSE(plan.memory().has_left_bytes());  // no limit on cpu
  EXPECT_FALSE(plan.compute().has_min_seconds_per_step());
}

TEST(PlanTest, ATiedHeadGathersTheEmbedding) {
  config::Experiment experiment = Llama8B();
  experiment.mutable_model()->set_enable_weight_tying(true);
  const plan::Plan plan = PlanOf(experiment);
  EXPECT_EQ(plan.blocks(33).parameters(), 4096);
  EXPECT_EQ(plan.blocks(33).rank().gathered_weights(), 2 * (128256 * 4096 + 4096));
}

TEST(PlanTest, TokensAndAccumulation) {
  config::Experiment experiment = Llama8B();
  experiment.mutable_training()->set_global_batch_size(32);
  const plan::Plan plan = PlanOf(experiment);
  EXPECT_EQ(plan.mesh().dp_shard(), 8);
  EXPECT_EQ(plan.batch().gradient_accumulation_steps(), 4);
  EXPECT_EQ(plan.batch().tokens_per_step(), 32 * 8192);
  EXPECT_EQ(plan.batch().total_tokens(), 32 * 8192 * 1000);
}

TEST(PlanTest, NoGlobalBatchSizeMeansOnePass) {
  const plan::Plan plan = PlanOf(Llama8B());
  EXPECT_EQ(plan.batch().global_batch_size(), 8);
  EXPECT_EQ(plan.batch().gradient_accumulation_steps(), 1);
}

TEST(PlanTest, FlopsAndTheLeastTime) {
  const plan::Plan plan = PlanOf(Llama8B());
  const double per_token = 6.0 * (8'030'261'248 - 525'336'576) + 6.0 * 32 * 32 * 256 * 8192;
  EXPECT_DOUBLE_EQ(plan.compute().flops_per_token(), per_token);
  EXPECT_DOUBLE_EQ(plan.compute().flops_per_step(), per_token * 65536);
  EXPECT_DOUBLE_EQ(plan.compute().total_flops(), per_token * 65536e3);
  EXPECT_DOUBLE_EQ(plan.compute().min_seconds_per_step(), per_token * 65536 / (8 * 989e12));
}

TEST(PlanTest, StatesThatDoNotFitAreRefusedWithTheSum) {
  config::Experiment experiment = Llama8B();
  experiment.mutable_cluster()->set_devices_per_node(1);
  const std::vector<std::string> refusals = Refusals(experiment);
  ASSERT_EQ(refusals.size(), 1);
  EXPECT_THAT(refusals[0], AllOf(HasSubstr("one h100 holds 79.10 GiB"),
                                 HasSubstr("weights 29.92 GiB + gradients 29.92 GiB + "
                                           "optimizer state 59.83 GiB = 119.66 GiB"),
                                 HasSubstr("shard over at least 2 devices")));
}

TEST(PlanTest, StatesMustFitBesideTheLargestUnit) {
  config::Experiment experiment = Llama8B();
  // 14.96 GiB of states and 0.98 GiB of the head.
  experiment.mutable_cluster()->set_memory_gib(16);
  EXPECT_EQ(PlanOf(experiment).cluster().memory_bytes(), 16 * kGib);
  experiment.mutable_cluster()->set_memory_gib(15.5);
  EXPECT_THAT(Refusals(experiment), ElementsAre(HasSubstr("15.94 GiB before any activation")));
}

TEST(PlanTest, OffloadedStatesAreNotOnTheDevice) {
  config::Experiment experiment = Llama8B();
  experiment.mutable_cluster()->set_devices_per_node(1);
  experiment.mutable_training()->set_enable_cpu_offload(true);
  const plan::Plan plan = PlanOf(experiment);
  EXPECT_EQ(plan.memory().required_bytes(), plan.memory().rank().gathered_weights());
  EXPECT_THAT(PlanText(plan),
              AllOf(HasSubstr("optimizer state, on the host"), HasSubstr("Memory of the host\n  states")));
  experiment.mutable_cluster()->set_memory_gib(0.5);
  EXPECT_THAT(Refusals(experiment),
              ElementsAre(HasSubstr("1002.01 MiB before any activation: the largest gathered unit, head, ")));

  config::Experiment on_cpu = Debug();
  const int64_t required = PlanOf(on_cpu).memory().required_bytes();
  on_cpu.mutable_training()->set_enable_cpu_offload(true);
  EXPECT_EQ(PlanOf(on_cpu).memory().required_bytes(), required);
}

TEST(PlanTest, ALimitOnTheCpuIsHonoured) {
  config::Experiment experiment = Debug();
  experiment.mutable_cluster()->set_memory_gib(0.01);
  EXPECT_THAT(Refusals(experiment), ElementsAre(HasSubstr("one cpu holds 10.24 MiB")));
}

TEST(PlanTest, EveryReasonIsGiven) {
  config::Experiment experiment = Llama8B();
  experiment.mutable_parallelism()->set_data_parallel_shard_degree(3);
  experiment.mutable_training()->set_local_batch_size(2);
  experiment.mutable_training()->set_global_batch_size(8);
  experiment.mutable_cluster()->set_memory_gib(8);
  EXPECT_THAT(Refusals(experiment), ElementsAre(AllOf(HasSubstr("= 3 ranks"), HasSubstr("= 8 devices")),
                                                AllOf(HasSubstr("training.global_batch_size: 8 is not a multiple of 6"),
                                                      HasSubstr("use 6 or 12")),
                                                HasSubstr("one h100 holds 8.00 GiB")));
}

TEST(PlanTest, BytesAreDeterministic) {
  EXPECT_EQ(CanonicalBytes(PlanOf(Llama8B())), CanonicalBytes(PlanOf(Llama8B())));
  plan::Plan parsed;
  ASSERT_TRUE(parsed.ParseFromString(CanonicalBytes(PlanOf(Llama8B()))));
  EXPECT_EQ(parsed.model().parameters(), 8'030'261'248);
}

TEST(PlanTest, TextSaysEqualLayersOnce) {
  const std::string text = PlanText(PlanOf(Llama8B()));
  EXPECT_THAT(text, AllOf(HasSubstr("layers.0 to 31, each"), Not(HasSubstr("layers.7")),
                          HasSubstr("8,030,261,248 parameters"), HasSubstr("65,536 tokens a step")));
  for (const std::string_view line : absl::StrSplit(text, '\n')) {
    EXPECT_FALSE(absl::EndsWith(line, " ")) << '"' << line << '"';
  }
}

TEST(PlanTest, JsonHasNumbers) {
  const nlohmann::json json = nlohmann::json::parse(PlanJson(PlanOf(Llama8B())));
  EXPECT_EQ(json["model"]["parameters"], 8'030'261'248);
  EXPECT_EQ(json["blocks"].size(), 34);
  EXPECT_EQ(json["blocks"][0]["name"], "tok_embeddings");
  EXPECT_EQ(json["mesh"]["dp_shard"], 8);
  EXPECT_TRUE(json["notes"].is_array());
}

TEST(PlanTest, HtmlStandsAlone) {
  plan::Plan plan = PlanOf(Llama8B());
  plan.set_name("<b>evil</b>");
  const std::string html = PlanHtml(plan);
  EXPECT_THAT(html, AllOf(HasSubstr("8,030,261,248"), HasSubstr("&lt;b&gt;evil"), Not(HasSubstr("<b>evil")),
                          Not(HasSubstr("http")), Not(HasSubstr("<script")), Not(HasSubstr("src="))));
}

}  // namespace
}  // namespace titan
