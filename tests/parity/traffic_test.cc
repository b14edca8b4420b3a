// What every rank of every layout sends in a step, counted by the communicators, is what the formulas of
// docs/parallelism.md give: byte for byte, by axis and operation.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/parity/layouts.h"
#include "tests/parity/traffic_formulas.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/parallel/multi_process_test.h"
#include "titan/train/allocator.h"
#include "titan/train/trainer.h"

namespace titan {
namespace {

using ::testing::ContainerEq;

constexpr int64_t kProcesses = 8;
constexpr int64_t kRows = 8;
constexpr int64_t kSeqLen = 32;
constexpr int64_t kVocab = 64;

// Small and crooked: fewer heads of keys than of queries, units that do not fill their shards.
constexpr const char* kExperiment = R"({
  "model": {"name": "llama3", "dim": 32, "n_layers": 6, "n_heads": 8, "n_kv_heads": 4, "ffn_hidden_dim": 40,
            "vocab_size": 64},
  "data": {"sources": [{"corpus": "synthetic"}]},
  "training": {"seq_len": 32, "local_batch_size": 8, "global_batch_size": 8, "steps": 10,
               "mixed_precision_param": "float32"},
  "lr_scheduler": {"warmup_steps": 2}
})";

Batch MakeBatch() {
  Batch batch{.rows = kRows, .seq_len = kSeqLen, .tokens = {}, .labels = {}, .positions = {}};
  for (int64_t i = 0; i < kRows * kSeqLen; ++i) {
    batch.tokens.push_back(i * i % kVocab);
    batch.labels.push_back((i + 1) * (i + 1) % kVocab);
    batch.positions.push_back(i % kSeqLen);
  }
  return batch;
}

TrafficBytes Counted(const Traffic& traffic) {
  TrafficBytes bytes;
  for (const auto& [axis, counts] : traffic) {
    for (size_t kind = 0; kind < kNumCollectiveKinds; ++kind) {
      if (counts[kind].bytes_sent == 0) continue;
      bytes[absl::StrCat(axis, ".", NameOf(static_cast<CollectiveKind>(kind)))] = counts[kind].bytes_sent;
    }
  }
  return bytes;
}

// Two steps of this rank, with a look at the state between them, which sends a lot and must not count.
void CompareSteps(Transport& transport, const Layout& layout, const std::string& dtype) {
  std::vector<std::string> overrides = layout.overrides;
  overrides.push_back("training.mixed_precision_param=" + dtype);
  const std::string label = absl::StrCat(layout.name, " in ", dtype, ", rank ", transport.rank());
  const auto experiment = ReadExperiment(kExperiment, {.source_name = layout.name, .overrides = overrides});
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  const Mesh mesh = Mesh::Create(experiment->parallelism(), layout.world_size).value();
  const auto groups = ParallelGroups::Create(transport, mesh, layout.name + dtype);
  ASSERT_TRUE(groups.ok()) << groups.status();
  const auto trainer = Trainer::Create(*experiment, {.groups = groups->get()});
  ASSERT_TRUE(trainer.ok()) << label << trainer.status();
  const auto expected = ExpectedTraffic(*experiment, mesh, transport.rank());
  ASSERT_TRUE(expected.ok()) << label << expected.status();
  for (int step = 0; step < 2; ++step) {
    const Traffic before = (*trainer)->traffic();
    const auto result = (*trainer)->Step(MakeBatch());
    ASSERT_TRUE(result.ok()) << label << result.status();
    EXPECT_THAT(Counted(Since(before, (*trainer)->traffic())), ContainerEq(*expected)) << label << ", step " << step;
    (*trainer)->State();
  }
}

TEST(TrafficTest, EqualsTheFormulas) {
  EXPECT_EQ(RunRanks(kProcesses,
                     [](Transport& transport) {
                       KeepFreedMemory();
                       for (const Layout& layout : Layouts()) {
                         if (layout.muon) continue;  // who owns which matrix is no formula
                         if (transport.rank() < layout.world_size) CompareSteps(transport, layout, "float32");
                       }
                     }),
            "");
}

// What travels in the compute dtype is half of it, what is added up is not.
TEST(TrafficTest, EqualsTheFormulasInBfloat16) {
  EXPECT_EQ(RunRanks(kProcesses,
                     [](Transport& transport) {
                       for (const Layout& layout : Layouts()) {
                         const bool is_chosen = layout.name == "fsdp2" || layout.name == "cp2_ulysses_tp2" ||
                                                layout.name == "pp2_fsdp2_tp2" || layout.name == "pp2_cp2_tp2";
                         if (!is_chosen || transport.rank() >= layout.world_size) continue;
                         CompareSteps(transport, layout, "bfloat16");
                       }
                     }),
            "");
}

}  // namespace
}  // namespace titan
