#include "titan/train/trainer.h"

#include <ATen/Context.h>
#include <ATen/ops/equal.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/train/exit_code.h"

namespace titan {
namespace {

constexpr int64_t kRows = 4;
constexpr int64_t kSeqLen = 16;

config::Experiment TinyExperiment(const std::vector<std::string>& overrides = {}) {
  const auto experiment = ReadExperiment(R"({
    "model": {"name": "llama3", "dim": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn_hidden_dim": 24,
              "vocab_size": 32},
    "data": {"sources": [{"corpus": "synthetic"}]},
    "training": {"seq_len": 16, "local_batch_size": 2, "global_batch_size": 4, "steps": 10,
                 "mixed_precision_param": "float32"},
    "optimizer": {"lr": 0.01},
    "lr_scheduler": {"warmup_steps": 2}
  })",
                                         {.source_name = "test", .overrides = overrides});
  EXPECT_TRUE(experiment.ok()) << experiment.status().message();
  return *experiment;
}

// Each row two documents; some labels ignored, not equally many in both halves of the batch.
Batch MakeBatch(int64_t phase) {
  Batch batch{.rows = kRows, .seq_len = kSeqLen, .tokens = {}, .labels = {}, .positions = {}};
  for (int64_t i = 0; i < kRows * kSeqLen; ++i) {
    batch.tokens.push_back((i * i + 7 * phase) % 32);
    batch.labels.push_back(i % 5 == 0 && i < 20 ? -100 : ((i + 1) * (i + 1) + 7 * phase) % 32);
    batch.positions.push_back(i % 8);
  }
  return batch;
}

std::unique_ptr<Trainer> Make(const config::Experiment& experiment, const TrainerOptions& options = {}) {
  auto trainer = Trainer::Create(experiment, options);
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  return *std::move(trainer);
}

void ExpectSameState(const Trainer& a, const Trainer& b) {
  const auto left = a.State(), right = b.State();
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i) {
    EXPECT_EQ(left[i].first, right[i].first);
    EXPECT_TRUE(at::equal(left[i].second, right[i].second)) << left[i].first;
  }
}

TEST(TrainerTest, LossFallsOnABatchThatItSeesAgain) {
  const auto trainer = Make(TinyExperiment());
  const double first = trainer->Step(MakeBatch(0))->loss;
  EXPECT_NEAR(first, std::log(32), 1.0);
  double last = first;
  for (int i = 0; i < 8; ++i) last = trainer->Step(MakeBatch(0))->loss;
  EXPECT_LT(last, first - 0.5);
  EXPECT_EQ(trainer->step(), 9);
}

TEST(TrainerTest, FollowsTheLearningRateSchedule) {
  const auto trainer = Make(TinyExperiment());
  EXPECT_DOUBLE_EQ(trainer->Step(MakeBatch(0))->lr, 0.005);
  EXPECT_DOUBLE_EQ(trainer->Step(MakeBatch(0))->lr, 0.01);
  EXPECT_DOUBLE_EQ(trainer->lr(), 0.01);
}

// The sum of gradients over microbatches of unequal valid tokens is the gradient of the whole batch.
TEST(TrainerTest, AccumulationEqualsOneLargeBatch) {
  const TrainerOptions fp64{.fp64 = true};
  const auto whole = Make(TinyExperiment({"training.local_batch_size=4"}), fp64);
  const auto halves = Make(TinyExperiment({"training.local_batch_size=2"}), fp64);
  const auto rows = Make(TinyExperiment({"training.local_batch_size=1"}), fp64);
  for (int64_t step = 0; step < 3; ++step) {
    const auto expected = whole->Step(MakeBatch(step));
    ASSERT_TRUE(expected.ok()) << expected.status();
    for (Trainer* trainer : {halves.get(), rows.get()}) {
      const auto result = trainer->Step(MakeBatch(step));
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->valid_tokens, expected->valid_tokens);
      EXPECT_NEAR(result->loss, expected->loss, 1e-12);
      EXPECT_NEAR(result->grad_norm, expected->grad_norm, 1e-12);
    }
  }
}

// Float8 rounds, but not so much that the run is another one.
TEST(TrainerTest, Float8FollowsFullPrecision) {
  const std::vector<std::string> sizes = {"model.n_kv_heads=4", "model.ffn_hidden_dim=32"};
  std::vector<std::string> float8 = sizes;
  float8.push_back("quantize.linear.float8.recipe_name=tensorwise");
  float8.push_back("quantize.linear.float8.emulate=true");
  const auto full = Make(TinyExperiment(sizes)), rounded = Make(TinyExperiment(float8));
  double largest_difference = 0;
  for (int64_t step = 0; step < 10; ++step) {
    const double expected = full->Step(MakeBatch(step % 2))->loss, actual = rounded->Step(MakeBatch(step % 2))->loss;
    EXPECT_NEAR(actual, expected, 0.02 * expected) << step;
    largest_difference = std::max(largest_difference, std::abs(actual - expected));
  }
  EXPECT_GT(largest_difference, 1e-4) << "nothing was rounded";
}

TEST(TrainerTest, RecomputationChangesNothing) {
  const auto kept = Make(TinyExperiment());
  const auto full = Make(TinyExperiment({"activation_checkpoint.mode=full"}));
  const auto second =
      Make(TinyExperiment({"activation_checkpoint.mode=selective", "activation_checkpoint.selective_ac_option=2"}));
  const auto by_operator =
      Make(TinyExperiment({"activation_checkpoint.mode=selective", "activation_checkpoint.selective_ac_option=op"}));
  for (int64_t step = 0; step < 3; ++step) {
    for (Trainer* trainer : {kept.get(), full.get(), second.get(), by_operator.get()}) {
      ASSERT_TRUE(trainer->Step(MakeBatch(step)).ok());
    }
  }
  ExpectSameState(*kept, *full);
  ExpectSameState(*kept, *second);
  ExpectSameState(*kept, *by_operator);
}

TEST(TrainerTest, OffloadingChangesNothing) {
  for (const at::Device device : {at::Device(at::kCPU), at::Device(at::kCUDA, 0)}) {
    if (device.is_cuda() && !at::globalContext().hasCUDA()) continue;
    for (const char* precision : {"float32", "bfloat16"}) {
      const std::string compute = absl::StrCat("training.mixed_precision_param=", precision);
      const auto kept = Make(TinyExperiment({compute}), {.device = device});
      const auto offloaded = Make(TinyExperiment({compute, "training.enable_cpu_offload=true"}), {.device = device});
      for (int64_t step = 0; step < 3; ++step) {
        const auto expected = kept->Step(MakeBatch(step));
        const auto result = offloaded->Step(MakeBatch(step));
        ASSERT_TRUE(expected.ok() && result.ok()) << result.status();
        // The optimizer of a GPU rounds otherwise than that of a CPU.
        EXPECT_NEAR(result->loss, expected->loss, device.is_cpu() ? 0 : 1e-3);
        EXPECT_NEAR(result->grad_norm, expected->grad_norm, device.is_cpu() ? 0 : 1e-2);
      }
      if (device.is_cpu()) ExpectSameState(*kept, *offloaded);
      for (const auto& [name, tensor] : offloaded->State()) EXPECT_TRUE(tensor.is_cpu()) << name;
    }
  }
}

// Two microbatches a step, of layers whose gates are large enough to leave.
TEST(TrainerTest, OffloadedActivationsChangeNothing) {
  for (const at::Device device : {at::Device(at::kCPU), at::Device(at::kCUDA, 0)}) {
    if (device.is_cuda() && !at::globalContext().hasCUDA()) continue;
    for (const char* recompute : {"none", "full"}) {
      const std::vector<std::string> overrides = {"model.ffn_hidden_dim=512", "model.n_layers=4",
                                                  absl::StrCat("activation_checkpoint.mode=", recompute)};
      std::vector<std::string> with = overrides;
      with.push_back("activation_checkpoint.offload_layers=2");
      const auto kept = Make(TinyExperiment(overrides), {.device = device});
      const auto offloaded = Make(TinyExperiment(with), {.device = device});
      for (int64_t step = 0; step < 3; ++step) {
        const auto expected = kept->Step(MakeBatch(step)), result = offloaded->Step(MakeBatch(step));
        ASSERT_TRUE(expected.ok() && result.ok()) << expected.status() << result.status();
        // Attention on a GPU adds up its gradients in any order.
        EXPECT_NEAR(result->loss, expected->loss, device.is_cpu() ? 0 : 1e-2) << device << recompute << step;
        EXPECT_NEAR(result->grad_norm, expected->grad_norm, device.is_cpu() ? 0 : 3e-2) << device << recompute << step;
      }
      if (device.is_cpu()) ExpectSameState(*kept, *offloaded);
    }
  }
}

// Two microbatches a step, and more forms of them than one: rows of one document and rows of two.
TEST(TrainerTest, RecordedWorkChangesNothing) {
  for (const at::Device device : {at::Device(at::kCPU), at::Device(at::kCUDA, 0)}) {
    if (device.is_cuda() && !at::globalContext().hasCUDA()) continue;
    for (const char* precision : {"float32", "bfloat16"}) {
      for (const char* recompute : {"none", "full"}) {
        const std::string compute = absl::StrCat("training.mixed_precision_param=", precision);
        const std::string mode = absl::StrCat("activation_checkpoint.mode=", recompute);
        const auto launched = Make(TinyExperiment({compute, mode}), {.device = device});
        const auto recorded =
            Make(TinyExperiment({compute, mode, "cluster.accelerator=h200", "training.enable_cuda_graphs=true"}),
                 {.device = device});
        for (int64_t step = 0; step < 8; ++step) {
          Batch batch = MakeBatch(step);
          if (step % 4 == 1) {
            for (size_t i = 0; i < batch.positions.size(); ++i) batch.positions[i] = i % kSeqLen;
          }
          const auto expected = launched->Step(batch), result = recorded->Step(batch);
          ASSERT_TRUE(expected.ok() && result.ok()) << expected.status() << result.status();
          // Attention on a GPU adds up its gradients in any order.
          EXPECT_NEAR(result->loss, expected->loss, device.is_cpu() ? 0 : 1e-2) << device << precision << step;
          EXPECT_NEAR(result->grad_norm, expected->grad_norm, device.is_cpu() ? 0 : 3e-2)
              << device << precision << step;
        }
        if (device.is_cpu()) ExpectSameState(*launched, *recorded);
      }
    }
  }
}

TEST(TrainerTest, TheLossSumOfABatchIsThatOfAStep) {
  for (const char* mode : {"none", "full"}) {
    const auto trainer = Make(TinyExperiment({absl::StrCat("activation_checkpoint.mode=", mode)}), {.fp64 = true});
    for (int64_t step = 0; step < 2; ++step) {
      const auto sum = trainer->LossSum(MakeBatch(step));
      const auto result = trainer->Step(MakeBatch(step));
      ASSERT_TRUE(sum.ok() && result.ok()) << sum.status() << result.status();
      EXPECT_NEAR(*sum / static_cast<double>(result->valid_tokens), result->loss, 1e-12);
    }
  }
}

// Of rows of another length and number, between steps and in the midst of one.
TEST(TrainerTest, ALossSumChangesNothing) {
  const auto experiment = TinyExperiment({"activation_checkpoint.mode=selective",
                                          "activation_checkpoint.selective_ac_option=op", "determinism.mode=bitwise"});
  const auto straight = Make(experiment), looking = Make(experiment);
  Batch other = MakeBatch(5);
  other.rows = 8;
  other.seq_len = kSeqLen / 2;
  for (int64_t step = 0; step < 3; ++step) {
    ASSERT_TRUE(looking->LossSum(other).ok());
    const auto expected = straight->Step(MakeBatch(step));
    const auto gradients = looking->ComputeGradients(MakeBatch(step));
    ASSERT_TRUE(expected.ok() && gradients.ok());
    ASSERT_TRUE(looking->LossSum(other).ok());
    ASSERT_TRUE(looking->Update(*gradients).ok());
    EXPECT_EQ(gradients->loss, expected->loss);
    EXPECT_EQ(gradients->grad_norm, expected->grad_norm);
  }
  ExpectSameState(*straight, *looking);
}

TEST(TrainerTest, ASkippedUpdateLeavesEverythingAsItWas) {
  const auto once = Make(TinyExperiment());
  const auto skipping = Make(TinyExperiment());
  ASSERT_TRUE(skipping->ComputeGradients(MakeBatch(1)).ok());
  EXPECT_EQ(skipping->step(), 0);
  ExpectSameState(*once, *skipping);
  ASSERT_TRUE(once->Step(MakeBatch(0)).ok());
  ASSERT_TRUE(skipping->Step(MakeBatch(0)).ok());
  ExpectSameState(*once, *skipping);
}

// Muon for matrices of layers, AdamW for the rest.
const std::vector<std::string> kMuon = {
    "optimizer.name=Muon", R"(optimizer.param_groups=[{"pattern": "tok_embeddings|output|norm", "lr": 0.005}])"};

TEST(TrainerTest, MuonLearnsAndKeepsHalfTheState) {
  std::vector<std::string> overrides = kMuon;
  overrides.push_back("optimizer.adjust_lr_fn=match_rms_adamw");
  const auto trainer = Make(TinyExperiment(overrides));
  const double first = trainer->Step(MakeBatch(0))->loss;
  double last = first;
  for (int i = 0; i < 8; ++i) last = trainer->Step(MakeBatch(0))->loss;
  EXPECT_LT(last, first - 0.3);
  int momenta = 0, squares = 0;
  for (const auto& [name, tensor] : trainer->State()) {
    momenta += name.rfind("optimizer.momentum.layers.", 0) == 0;
    squares += name.rfind("optimizer.exp_avg_sq.", 0) == 0;
    EXPECT_NE(name, "optimizer.exp_avg.layers.0.attention.wq.weight");
    EXPECT_GT(tensor.abs().max().item<double>(), 0) << name;
  }
  EXPECT_EQ(momenta, 14);
  EXPECT_EQ(squares, 7);
}

TEST(TrainerTest, ContinuesBitForBitFromItsState) {
  std::vector<std::vector<std::string>> cases = {{"training.mixed_precision_param=float32"},
                                                 {"training.mixed_precision_param=bfloat16"},
                                                 {"optimizer.state_in_bfloat16=true"}};
  for (size_t i = 1; i <= 2; ++i) {
    cases.push_back(kMuon);
    cases.back().push_back(cases[i].front());
  }
  for (std::vector<std::string> overrides : cases) {
    overrides.push_back("determinism.mode=bitwise");
    const config::Experiment experiment = TinyExperiment(overrides);
    const auto straight = Make(experiment);
    const auto stopped = Make(experiment);
    for (int64_t step = 0; step < 3; ++step) {
      ASSERT_TRUE(straight->Step(MakeBatch(step)).ok());
      ASSERT_TRUE(stopped->Step(MakeBatch(step)).ok());
    }
    const auto state = stopped->State();
    overrides.push_back("debug.seed=7");
    const auto resumed = Make(TinyExperiment(overrides));
    const auto read = [&](const Trainer::StatePiece& piece, const at::Tensor& out) -> absl::Status {
      for (const auto& [key, tensor] : state) {
        if (key != piece.name) continue;
        EXPECT_EQ(piece.boxes.size(), 1u);  // a process alone has all of it
        EXPECT_EQ(piece.boxes[0].shape, piece.shape);
        out.copy_(tensor.reshape({-1}));
        return absl::OkStatus();
      }
      return absl::NotFoundError(piece.name);
    };
    const absl::Status restored = resumed->Restore(3, read);
    ASSERT_TRUE(restored.ok()) << restored;
    for (int64_t step = 3; step < 6; ++step) {
      const auto a = straight->Step(MakeBatch(step));
      const auto b = resumed->Step(MakeBatch(step));
      ASSERT_TRUE(a.ok() && b.ok());
      EXPECT_EQ(a->loss, b->loss);
      EXPECT_EQ(a->grad_norm, b->grad_norm);
      EXPECT_EQ(a->lr, b->lr);
    }
    ExpectSameState(*straight, *resumed);
  }
}

// Averages of 8 bits: another run, but not by much; and they are what a checkpoint holds.
TEST(TrainerTest, StateInBfloat16FollowsThatInFloat32) {
  const auto exact = Make(TinyExperiment()), rounded = Make(TinyExperiment({"optimizer.state_in_bfloat16=true"}));
  double difference = 0;
  for (int64_t step = 0; step < 8; ++step) {
    const double expected = exact->Step(MakeBatch(step % 2))->loss;
    const double actual = rounded->Step(MakeBatch(step % 2))->loss;
    EXPECT_NEAR(actual, expected, 0.02 * expected);
    difference = std::max(difference, std::abs(actual - expected));
  }
  EXPECT_GT(difference, 0);
  for (const auto& [name, tensor] : rounded->State()) {
    EXPECT_EQ(tensor.scalar_type(), name.rfind("model.", 0) == 0 ? at::kFloat : at::kBFloat16) << name;
  }
}

TEST(TrainerTest, RefusesAPatternThatIsFoundNowhere) {
  const absl::Status status =
      Trainer::Create(TinyExperiment({R"(optimizer.param_groups=[{"pattern": "embed_tokens"}])"}), {}).status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
  EXPECT_NE(status.message().find("optimizer.param_groups.0.pattern: \"embed_tokens\" is found in no parameter"),
            std::string::npos)
      << status;
}

// 16 mantissa bits less: the loss of one forward pass agrees to about 1e-2, and not to fp32's 1e-6.
TEST(TrainerTest, Bfloat16FollowsFloat32) {
  const auto exact = Make(TinyExperiment());
  const auto rounded = Make(TinyExperiment({"training.mixed_precision_param=bfloat16"}));
  double difference = 0;
  for (int64_t step = 0; step < 5; ++step) {
    const double expected = exact->Step(MakeBatch(step))->loss;
    const double actual = rounded->Step(MakeBatch(step))->loss;
    EXPECT_NEAR(actual, expected, 0.03);
    difference = std::max(difference, std::abs(actual - expected));
  }
  EXPECT_GT(difference, 1e-6);
  for (const auto& [name, tensor] : rounded->State()) EXPECT_EQ(tensor.scalar_type(), at::kFloat) << name;
}

TEST(TrainerTest, StopsBeforeTheUpdateWhenAGradientIsNotFinite) {
  const auto trainer = Make(TinyExperiment());
  ASSERT_TRUE(trainer->Step(MakeBatch(0)).ok());
  for (const auto& [name, tensor] : trainer->State()) {
    if (name == "model.layers.1.feed_forward.w2.weight") {
      at::Tensor weight = tensor;
      weight[0][0] = std::numeric_limits<float>::infinity();
    }
  }
  const auto result = trainer->Step(MakeBatch(1));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(ExitCodeOf(result.status()), ExitCode::kNonFinite);
  const std::string message(result.status().message());
  EXPECT_NE(message.find("step 2, rank 0: loss "), std::string::npos) << message;
  EXPECT_NE(message.find("first bad gradient is that of tok_embeddings.weight"), std::string::npos) << message;
  EXPECT_EQ(trainer->step(), 1);
}

TEST(TrainerTest, RefusesABatchThatItCannotCut) {
  const auto trainer = Make(TinyExperiment());
  Batch batch = MakeBatch(0);
  batch.rows = 3;
  const auto result = trainer->Step(batch);
  EXPECT_TRUE(absl::IsInvalidArgument(result.status()));
  batch = MakeBatch(0);
  batch.labels.pop_back();
  EXPECT_TRUE(absl::IsInvalidArgument(trainer->Step(batch).status()));
}

TEST(TrainerTest, ABatchWithoutLabelsHasNoGradient) {
  const auto trainer = Make(TinyExperiment());
  Batch batch = MakeBatch(0);
  for (int64_t& label : batch.labels) label = -100;
  const auto gradients = trainer->ComputeGradients(batch);
  ASSERT_TRUE(gradients.ok()) << gradients.status();
  EXPECT_EQ(gradients->loss, 0);
  EXPECT_EQ(gradients->grad_norm, 0);
}

}  // namespace
}  // namespace titan
