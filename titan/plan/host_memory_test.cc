#include "titan/plan/host_memory.h"

#include <string>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"
#include "titan/plan/plan.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kMib = int64_t{1} << 20;

// Two layers of 2^22 parameters and norms, on `devices` H100s.
config::Experiment Small(int64_t devices) {
  config::Experiment experiment;
  config::Model& model = *experiment.mutable_model();
  model.set_name(config::Model::FAMILY_LLAMA3);
  model.set_dim(512);
  model.set_n_layers(2);
  model.set_n_heads(8);
  model.set_n_kv_heads(4);
  model.set_head_dim(64);
  model.set_ffn_hidden_dim(2048);
  model.set_vocab_size(4096);
  experiment.mutable_training()->set_local_batch_size(2);
  experiment.mutable_training()->set_seq_len(4096);
  experiment.mutable_training()->set_steps(10);
  experiment.mutable_cluster()->set_accelerator(config::Cluster::ACCELERATOR_H100);
  experiment.mutable_cluster()->set_devices_per_node(devices);
  return experiment;
}

plan::Memory MemoryOf(const config::Experiment& experiment) {
  const absl::StatusOr<plan::Plan> plan = BuildPlan(experiment, "test");
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? plan->memory() : plan::Memory();
}

// Of a unit: the embedding and the output have 2^21 parameters, the output besides a norm.
constexpr int64_t kEmbedding = 4096 * 512;
constexpr int64_t kHead = kEmbedding + 512;
constexpr int64_t kLayer = 2 * 512 + 2 * 512 * 512 + 2 * 256 * 512 + 3 * 2048 * 512;
constexpr int64_t kAll = kEmbedding + kHead + 2 * kLayer;

TEST(HostMemoryTest, NothingUnlessTheConfigurationPutsSomethingThere) {
  EXPECT_FALSE(MemoryOf(Small(1)).has_host());
  config::Experiment experiment = Small(1);
  experiment.mutable_checkpoint()->set_enable(true);  // what is written at once is not copied first
  EXPECT_FALSE(MemoryOf(experiment).has_host());
  EXPECT_THAT(PlanText(*BuildPlan(experiment, "test")), Not(HasSubstr("host")));

  config::Experiment on_cpu = Small(1);
  on_cpu.mutable_cluster()->set_accelerator(config::Cluster::ACCELERATOR_CPU);
  on_cpu.mutable_training()->set_enable_cpu_offload(true);
  on_cpu.mutable_activation_checkpoint()->set_offload_layers(1);
  EXPECT_FALSE(MemoryOf(on_cpu).has_host()) << "there is only one memory";
}

TEST(HostMemoryTest, OffloadedStates) {
  config::Experiment experiment = Small(1);
  experiment.mutable_training()->set_enable_cpu_offload(true);
  const plan::HostMemory host = MemoryOf(experiment).host();
  // Gradients in float32 and compute copies in bfloat16, a tensor for each unit: 8 and 4 MiB of the embedding, 15 and
  // 7.5 of a layer, a little more than 8 and 4 of the head.
  const int64_t pinned = (8 + 4 + 2 * (16 + 8) + 16 + 8) * kMib;
  EXPECT_EQ(host.pinned_bytes(), pinned);
  EXPECT_EQ(host.states(), pinned + 12 * kAll);
  EXPECT_EQ(host.rank_bytes(), host.states());
  EXPECT_EQ(host.node_bytes(), host.states());

  experiment.mutable_training()->set_mixed_precision_param(config::Training::DTYPE_FLOAT32);  // the masters themselves
  const plan::HostMemory in_float32 = MemoryOf(experiment).host();
  EXPECT_EQ(in_float32.pinned_bytes(), 2 * (8 + 2 * 16 + 16) * kMib);
  EXPECT_EQ(in_float32.states(), in_float32.pinned_bytes() + 8 * kAll);
}

TEST(HostMemoryTest, TensorsOfAnOffloadedLayer) {
  config::Experiment experiment = Small(1);
  experiment.mutable_activation_checkpoint()->set_offload_layers(1);
  plan::Mesh mesh;
  mesh.set_cp(1);
  mesh.set_tp(1);
  constexpr int64_t kTokens = 2 * 4096, kDim = kTokens * 512 * 2, kKeys = kTokens * 256 * 2, kFfn = kTokens * 2048 * 2;
  // Numbers for each token, 32 KiB, stay.
  EXPECT_THAT(OffloadedTensors(experiment, mesh),
              ElementsAre(kDim, kDim, kDim, kDim, kDim, kKeys, kKeys, kFfn, kFfn, kFfn, kTokens * 8 * 4));
  // Tensor parallelism: features by 2; between them the sum's tokens by 2. The products read all that the norms give.
  mesh.set_tp(2);
  const auto halves = ElementsAre(kDim, kDim, kDim / 2, kDim / 2, kDim / 2, kKeys / 2, kKeys / 2, kFfn / 2, kFfn / 2,
                                  kFfn / 2, kTokens * 4 * 4);
  EXPECT_THAT(OffloadedTensors(experiment, mesh), halves);
  experiment.mutable_parallelism()->set_enable_sequence_parallel(false);
  EXPECT_EQ(OffloadedTensors(experiment, mesh)[2], kDim);
  // Context parallelism: half of the tokens.
  mesh.set_tp(1);
  mesh.set_cp(2);
  EXPECT_EQ(OffloadedTensors(experiment, mesh)[0], kDim / 2);
  EXPECT_EQ(OffloadedTensors(experiment, mesh)[9], kFfn / 2);
}

TEST(HostMemoryTest, OffloadedActivationsAreOfEveryLayerAndOneMicrobatch) {
  config::Experiment experiment = Small(2);
  experiment.mutable_model()->set_n_layers(9);
  experiment.mutable_training()->set_global_batch_size(16);  // four passes, one after the other
  experiment.mutable_activation_checkpoint()->set_offload_layers(3);
  const plan::HostMemory host = MemoryOf(experiment).host();
  EXPECT_EQ(host.activations(), 3 * (5 * 8 * kMib + 2 * 4 * kMib + 3 * 32 * kMib + kMib / 4));
  EXPECT_EQ(host.pinned_bytes(), host.activations());
  EXPECT_EQ(host.rank_bytes(), host.activations());
  EXPECT_EQ(host.node_bytes(), 2 * host.activations());

  experiment.mutable_training()->set_seq_len(4096 + 64);  // the next power of two
  EXPECT_EQ(MemoryOf(experiment).host().activations(), 2 * host.activations());
}

TEST(HostMemoryTest, CopyOfACheckpoint) {
  config::Experiment experiment = Small(1);
  config::Checkpoint& checkpoint = *experiment.mutable_checkpoint();
  checkpoint.set_enable(true);
  checkpoint.set_async_mode(config::Checkpoint::ASYNC_MODE_ASYNC);
  const plan::HostMemory pageable = MemoryOf(experiment).host();
  EXPECT_EQ(pageable.checkpoint(), 12 * kAll);  // weights and two averages
  EXPECT_EQ(pageable.pinned_bytes(), 0);
  checkpoint.set_async_mode(config::Checkpoint::ASYNC_MODE_ASYNC_WITH_PINNED_MEM);
  const plan::HostMemory pinned = MemoryOf(experiment).host();
  EXPECT_EQ(pinned.checkpoint(), 3 * (8 + 2 * 16 + 16) * kMib);
  EXPECT_EQ(pinned.pinned_bytes(), pinned.checkpoint());

  experiment.mutable_training()->set_enable_cpu_offload(true);  // is there already
  EXPECT_EQ(MemoryOf(experiment).host().checkpoint(), 12 * kAll);
  experiment.mutable_training()->set_enable_cpu_offload(false);
  experiment.mutable_optimizer()->set_name(config::Optimizer::NAME_MUON);                         // has one average
  experiment.mutable_optimizer()->add_param_groups()->set_pattern("tok_embeddings|output|norm");  // AdamW's
  experiment.mutable_optimizer()->set_state_in_bfloat16(true);
  checkpoint.set_async_mode(config::Checkpoint::ASYNC_MODE_ASYNC);
  const plan::Memory muon = MemoryOf(experiment);
  EXPECT_EQ(muon.host().checkpoint(), muon.rank().weights() + muon.rank().optimizer_state());
  checkpoint.set_load_only(true);
  EXPECT_FALSE(MemoryOf(experiment).has_host());
}

TEST(HostMemoryTest, ReplicasShareACheckpointAndAPipelineHasAWorstRank) {
  config::Experiment experiment = Small(2);
  experiment.mutable_checkpoint()->set_enable(true);
  experiment.mutable_checkpoint()->set_async_mode(config::Checkpoint::ASYNC_MODE_ASYNC);
  experiment.mutable_parallelism()->set_data_parallel_replicate_degree(2);
  const plan::HostMemory replicated = MemoryOf(experiment).host();
  EXPECT_EQ(replicated.checkpoint(), 12 * (kLayer + kHead));  // the second and the fourth unit
  EXPECT_EQ(replicated.node_bytes(), 2 * replicated.rank_bytes());

  experiment.mutable_parallelism()->set_data_parallel_replicate_degree(1);
  experiment.mutable_parallelism()->set_pipeline_parallel_degree(2);
  EXPECT_EQ(MemoryOf(experiment).host().checkpoint(), 12 * (kLayer + kHead));
}

TEST(HostMemoryTest, IsShown) {
  config::Experiment experiment = Small(8);
  experiment.mutable_activation_checkpoint()->set_offload_layers(1);
  const plan::Plan plan = *BuildPlan(experiment, "test");
  for (const std::string& form : {PlanText(plan), PlanHtml(plan)}) {
    EXPECT_THAT(form, HasSubstr("Memory of the host"));
    EXPECT_THAT(form, HasSubstr("offloaded activations"));
    EXPECT_THAT(form, HasSubstr("a node of 8 ranks"));
    EXPECT_THAT(form, HasSubstr("1.13 GiB"));  // 8 x 144.25 MiB
    EXPECT_THAT(form, HasSubstr("whether it has, is not checked"));
    EXPECT_THAT(form, Not(HasSubstr("copy of a checkpoint")));
  }
  EXPECT_THAT(PlanJson(plan), HasSubstr("\"node_bytes\": 1210056704"));
}

}  // namespace
}  // namespace titan
