// A checkpoint that one layout has written is continued by every other one: real processes over Gloo, a tiny model
// whose shards are cut in the middle of rows.

#include <ATen/Parallel.h>
#include <ATen/ops/equal.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "titan/checkpoint/save.h"
#include "titan/checkpoint/store.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/parallel/groups.h"
#include "titan/parallel/multi_process_test.h"
#include "titan/train/trainer.h"

namespace titan {
namespace {

constexpr int64_t kProcesses = 4;
constexpr int64_t kRows = 4;
constexpr int64_t kSeqLen = 16;
constexpr int64_t kVocab = 64;
constexpr int64_t kSavedStep = 3;
constexpr int64_t kLastStep = 6;
constexpr double kLossTolerance = 1e-5;  // relative

constexpr char kExperiment[] = R"({
  "model": {"name": "llama3", "dim": 24, "n_layers": 3, "n_heads": 4, "ffn_hidden_dim": 40, "vocab_size": 64},
  "data": {"sources": [{"corpus": "synthetic"}]},
  "training": {"seq_len": 16, "local_batch_size": 4, "global_batch_size": 4, "steps": 10,
               "mixed_precision_param": "float32"},
  "optimizer": {"lr": 0.01},
  "lr_scheduler": {"warmup_steps": 2},
  "determinism": {"mode": "bitwise"}
})";

struct Layout {
  std::string name;
  int64_t pp = 1, dp_replicate = 1, dp_shard = 1, cp = 1, tp = 1;
  int64_t world_size() const { return pp * dp_replicate * dp_shard * cp * tp; }
};

const std::vector<Layout>& Layouts() {
  static const auto* const layouts = new std::vector<Layout>{
      {.name = "alone"},
      {.name = "ddp2", .dp_replicate = 2},
      {.name = "fsdp4", .dp_shard = 4},
      {.name = "hsdp2x2", .dp_replicate = 2, .dp_shard = 2},
      {.name = "tp2", .tp = 2},
      {.name = "fsdp2_tp2", .dp_shard = 2, .tp = 2},
      {.name = "ddp2_tp2", .dp_replicate = 2, .tp = 2},
      {.name = "fsdp2_cp2", .dp_shard = 2, .cp = 2},
      {.name = "pp2", .pp = 2},
      {.name = "pp2_fsdp2", .pp = 2, .dp_shard = 2},
  };
  return *layouts;
}

config::Experiment ExperimentOf(const Layout& layout) {
  const auto experiment = ReadExperiment(
      kExperiment, {.source_name = "resharding",
                    .overrides = {
                        absl::StrCat("cluster.devices_per_node=", layout.world_size()),
                        absl::StrCat("parallelism.pipeline_parallel_degree=", layout.pp),
                        absl::StrCat("parallelism.data_parallel_replicate_degree=", layout.dp_replicate),
                        absl::StrCat("parallelism.data_parallel_shard_degree=", layout.dp_shard),
                        absl::StrCat("parallelism.context_parallel_degree=", layout.cp),
                        absl::StrCat("parallelism.tensor_parallel_degree=", layout.tp),
                        absl::StrCat("training.local_batch_size=", kRows / (layout.dp_replicate * layout.dp_shard)),
                    }});
  EXPECT_TRUE(experiment.ok()) << experiment.status().message();
  return *experiment;
}

Batch MakeBatch(int64_t step) {
  Batch batch{.rows = kRows, .seq_len = kSeqLen, .tokens = {}, .labels = {}, .positions = {}};
  for (int64_t i = 0; i < kRows * kSeqLen; ++i) {
    batch.tokens.push_back((i * i + 7 * step) % kVocab);
    batch.labels.push_back(i % 7 == 0 ? -100 : ((i + 1) * (i + 1) + 7 * step) % kVocab);
    batch.positions.push_back(i % kSeqLen % 10);
  }
  return batch;
}

// The losses of the steps [first, last).
std::vector<double> Train(Trainer& trainer, int64_t last) {
  std::vector<double> losses;
  while (trainer.step() < last) {
    const auto result = trainer.Step(MakeBatch(trainer.step()));
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) break;
    losses.push_back(result->loss);
  }
  return losses;
}

std::vector<ShardPiece> PiecesOf(const Trainer& trainer) {
  std::vector<ShardPiece> pieces;
  for (const Trainer::StatePiece& part : trainer.LocalState()) {
    if (!part.is_written_here) continue;
    int64_t begin = part.begin;
    for (const Box& box : part.boxes) {
      pieces.push_back({part.name, part.shape, box, part.shard.narrow(0, begin, box.num_elements()).view(box.shape)});
      begin += box.num_elements();
    }
  }
  return pieces;
}

// One of the processes; those that a layout does not need look on.
class ReshardingRank {
 public:
  ReshardingRank(Transport& transport, std::string directory)
      : transport_(transport), directory_(std::move(directory)) {}

  // Trains kSavedStep steps, and leaves them in a checkpoint.
  void Save(const Layout& layout) {
    if (transport_.rank() >= layout.world_size()) return;
    const std::unique_ptr<ParallelGroups> groups = Groups(layout, "save");
    const auto trainer = Trainer::Create(ExperimentOf(layout), {.groups = groups.get()}).value();
    Train(*trainer, kSavedStep);
    const SaveTask task{.dir = directory_ + "/" + layout.name,
                        .step = kSavedStep,
                        .id = "0",
                        .rank = transport_.rank(),
                        .world_size = layout.world_size()};
    const absl::Status written = WriteShard(task, PiecesOf(*trainer));
    EXPECT_TRUE(written.ok()) << layout.name << ": " << written;
    if (transport_.rank() == 0) {
      const auto committed = CommitShards(task, "{}", "", {});
      EXPECT_TRUE(committed.ok()) << layout.name << ": " << committed.status();
    }
    const auto state = trainer->State();
    groups->world().Barrier();
    if (transport_.rank() != 0) return;
    // What was collected from all ranks is what they have written.
    const Checkpoint checkpoint = OpenCheckpoint(Path(layout)).value();
    EXPECT_EQ(checkpoint.index().tensors.size(), state.size());
    for (const auto& [name, tensor] : state) {
      EXPECT_TRUE(at::equal(checkpoint.Load(name).value(), tensor)) << layout.name << ": " << name;
    }
  }

  // Continues from what `from` has left; the result on rank 0.
  std::vector<double> Continue(const Layout& from, const Layout& to) {
    if (transport_.rank() >= to.world_size()) return {};
    const std::string label = absl::StrCat(from.name, " to ", to.name);
    const std::unique_ptr<ParallelGroups> groups = Groups(to, label);
    const auto trainer = Trainer::Create(ExperimentOf(to), {.groups = groups.get()}).value();
    const Checkpoint checkpoint = OpenCheckpoint(Path(from)).value();
    const auto read = [&](const Trainer::StatePiece& piece, const at::Tensor& out) {
      return checkpoint.Read(piece.name, piece.shape, piece.boxes, out);
    };
    const absl::Status restored = trainer->Restore(kSavedStep, read);
    EXPECT_TRUE(restored.ok()) << label << ": " << restored;
    const auto state = trainer->State();
    if (transport_.rank() == 0) {
      for (const auto& [name, tensor] : state) {
        EXPECT_TRUE(at::equal(checkpoint.Load(name).value(), tensor)) << label << ": " << name;
      }
      EXPECT_EQ(checkpoint.index().tensors.size(), state.size()) << label;
    }
    return Train(*trainer, kLastStep);
  }

 private:
  std::string Path(const Layout& layout) const {
    return absl::StrCat(directory_, "/", layout.name, "/step-", kSavedStep);
  }
  std::unique_ptr<ParallelGroups> Groups(const Layout& layout, const std::string& label) {
    const Mesh mesh = Mesh::Create(ExperimentOf(layout).parallelism(), layout.world_size()).value();
    return ParallelGroups::Create(transport_, mesh, absl::StrCat(label, " ", layout.name)).value();
  }

  Transport& transport_;
  const std::string directory_;
};

void ExpectClose(const std::vector<double>& losses, const std::vector<double>& expected, const std::string& label) {
  ASSERT_EQ(losses.size(), expected.size()) << label;
  for (size_t i = 0; i < losses.size(); ++i) {
    EXPECT_LE(std::abs(losses[i] - expected[i]), kLossTolerance * expected[i]) << label << ", step " << i;
  }
}

TEST(ReshardingTest, EveryLayoutContinuesEveryOther) {
  const std::string directory = testing::TempDir() + "/resharding";
  std::filesystem::remove_all(directory);
  EXPECT_EQ(
      RunRanks(kProcesses,
               [&](Transport& transport) {
                 const std::unique_ptr<ParallelGroups> all =
                     ParallelGroups::Create(
                         transport,
                         Mesh::Create(ExperimentOf({.name = "all", .dp_shard = 4}).parallelism(), kProcesses).value(),
                         "all")
                         .value();
                 ReshardingRank rank(transport, directory);
                 for (const Layout& layout : Layouts()) rank.Save(layout);
                 // Nobody reads what is not there yet.
                 all->world().Barrier();
                 const auto straight = Trainer::Create(ExperimentOf({.name = "alone"}), {}).value();
                 Train(*straight, kSavedStep);
                 const std::vector<double> expected = Train(*straight, kLastStep);
                 for (const Layout& from : Layouts()) {
                   for (const Layout& to : Layouts()) {
                     const std::vector<double> losses = rank.Continue(from, to);
                     if (transport.rank() == 0) {
                       ExpectClose(losses, expected, absl::StrCat(from.name, " to ", to.name));
                     }
                   }
                 }
               }),
      "");
}

}  // namespace
}  // namespace titan
