// Weights that travel in float8 give the same bits as weights that travel in the compute dtype and are quantised by
// whoever multiplies with them, in real processes.

#include <ATen/ops/equal.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/data/loader.h"
#include "titan/parallel/groups.h"
#include "titan/parallel/multi_process_test.h"
#include "titan/plan/mesh.h"
#include "titan/plan/model_spec.h"
#include "titan/plan/unit_layout.h"
#include "titan/train/trainer.h"

namespace titan {
namespace {

constexpr int64_t kRows = 4, kSeqLen = 16, kVocab = 64, kLayers = 2, kSteps = 3;
constexpr char kGather[] = "quantize.linear.float8.enable_fsdp_float8_all_gather=true";

config::Experiment Float8Experiment(std::vector<std::string> overrides) {
  const auto experiment = ReadExperiment(R"({
    "model": {"name": "llama3", "dim": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "ffn_hidden_dim": 64,
              "vocab_size": 64},
    "data": {"sources": [{"corpus": "synthetic"}]},
    "training": {"seq_len": 16, "local_batch_size": 1, "global_batch_size": 4, "steps": 10},
    "optimizer": {"lr": 0.01},
    "lr_scheduler": {"warmup_steps": 2},
    "quantize": {"linear": {"float8": {"recipe_name": "tensorwise", "emulate": true}}},
    "cluster": {"accelerator": "cpu"}
  })",
                                         {.source_name = "test", .overrides = std::move(overrides)});
  EXPECT_TRUE(experiment.ok()) << experiment.status().message();
  return *experiment;
}

Batch MakeBatch(int64_t phase) {
  Batch batch{.rows = kRows, .seq_len = kSeqLen, .tokens = {}, .labels = {}, .positions = {}};
  for (int64_t i = 0; i < kRows * kSeqLen; ++i) {
    batch.tokens.push_back((i * i + 7 * phase) % kVocab);
    batch.labels.push_back(((i + 1) * (i + 1) + 7 * phase) % kVocab);
    batch.positions.push_back(i % kSeqLen);
  }
  return batch;
}

struct Course {
  std::vector<std::pair<double, double>> steps;  // loss, gradient norm
  std::vector<std::pair<std::string, at::Tensor>> state;
  int64_t bytes_gathered = 0;  // that this rank sent for the last step
};

Course Train(const config::Experiment& experiment, const ParallelGroups* groups) {
  Course course;
  const auto trainer = Trainer::Create(experiment, {.groups = groups});
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  if (!trainer.ok()) return course;
  Traffic before;
  for (int64_t step = 0; step < kSteps; ++step) {
    before = (*trainer)->traffic();
    const auto result = (*trainer)->Step(MakeBatch(step));
    EXPECT_TRUE(result.ok()) << result.status();
    if (result.ok()) course.steps.emplace_back(result->loss, result->grad_norm);
  }
  Traffic last = Since(before, (*trainer)->traffic());
  course.bytes_gathered = last["fsdp"][static_cast<size_t>(CollectiveKind::kAllGather)].bytes_sent;
  for (auto& [name, tensor] : (*trainer)->State()) course.state.emplace_back(name, tensor.clone());
  return course;
}

void ExpectSameBits(const Course& a, const Course& b) {
  EXPECT_EQ(a.steps, b.steps);
  ASSERT_EQ(a.state.size(), b.state.size());
  for (size_t i = 0; i < a.state.size(); ++i) EXPECT_TRUE(at::equal(a.state[i].second, b.state[i].second)) << i;
}

void CompareLayout(Transport& transport, const std::vector<std::string>& layout) {
  std::vector<std::string> gathering = layout;
  gathering.push_back(kGather);
  const config::Experiment plain = Float8Experiment(layout), float8 = Float8Experiment(gathering);
  const auto mesh = Mesh::Create(plain.parallelism(), transport.world_size());
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  const auto groups = ParallelGroups::Create(transport, *mesh);
  ASSERT_TRUE(groups.ok()) << groups.status();
  const Course expected = Train(plain, groups->get()), course = Train(float8, groups->get());
  ExpectSameBits(expected, course);

  const auto spec = BuildModelSpec(plain.model());
  ASSERT_TRUE(spec.ok());
  const int64_t n = (*groups)->fsdp().size();
  const auto unit = LayOutUnit(spec->blocks[1], (*groups)->tp().size(), n);
  ASSERT_TRUE(unit.ok());
  // Of a layer a byte an element instead of the compute dtype's two, forward and backward in each of the microbatches;
  // and once the magnitudes of 7 weights.
  const int64_t microbatches = kRows / n, gathers = kLayers * 2 * microbatches;
  EXPECT_EQ(expected.bytes_gathered - course.bytes_gathered,
            (n - 1) * (gathers * unit->shard_size - kLayers * 7 * static_cast<int64_t>(sizeof(float))));
}

const std::vector<std::string> kFsdp2 = {"cluster.devices_per_node=2", "parallelism.data_parallel_shard_degree=2"};

TEST(Float8GatherTest, OfTwoRanks) {
  EXPECT_EQ(RunRanks(2, [](Transport& transport) { CompareLayout(transport, kFsdp2); }), "");
}

TEST(Float8GatherTest, WithTensorParallelismAndRecomputation) {
  EXPECT_EQ(RunRanks(4,
                     [](Transport& transport) {
                       CompareLayout(transport,
                                     {"cluster.devices_per_node=4", "parallelism.data_parallel_shard_degree=2",
                                      "parallelism.tensor_parallel_degree=2", "activation_checkpoint.mode=full"});
                     }),
            "");
}

TEST(Float8GatherTest, AFilteredLayerTravelsAsBefore) {
  EXPECT_EQ(RunRanks(2,
                     [](Transport& transport) {
                       std::vector<std::string> layout = kFsdp2;
                       layout.push_back("quantize.linear.float8.filter_fqns=[\"wo\"]");
                       std::vector<std::string> gathering = layout;
                       gathering.push_back(kGather);
                       const auto mesh = Mesh::Create(Float8Experiment(layout).parallelism(), 2);
                       ASSERT_TRUE(mesh.ok()) << mesh.status();
                       const auto groups = ParallelGroups::Create(transport, *mesh);
                       ASSERT_TRUE(groups.ok()) << groups.status();
                       const Course expected = Train(Float8Experiment(layout), groups->get());
                       const Course course = Train(Float8Experiment(gathering), groups->get());
                       ExpectSameBits(expected, course);
                       EXPECT_EQ(expected.bytes_gathered, course.bytes_gathered);
                     }),
            "");
}

TEST(Float8GatherTest, OfOneProcess) {
  ExpectSameBits(Train(Float8Experiment({}), nullptr), Train(Float8Experiment({kGather}), nullptr));
}

}  // namespace
}  // namespace titan
