#include "titan/train/checkpointer.h"

#include <ATen/Context.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/max.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/checkpoint/hf.h"
#include "titan/checkpoint/store.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

config::Experiment Tiny(const std::vector<std::string>& overrides) {
  const auto experiment = ReadExperiment(R"({
    "model": {"name": "llama3", "dim": 16, "n_layers": 2, "n_heads": 4, "ffn_hidden_dim": 24, "vocab_size": 32},
    "data": {"sources": [{"corpus": "synthetic"}]},
    "training": {"seq_len": 16, "local_batch_size": 2, "steps": 10, "mixed_precision_param": "float32"},
    "optimizer": {"lr": 0.01},
    "lr_scheduler": {"warmup_steps": 2},
    "checkpoint": {"enable": true, "interval": 2},
    "determinism": {"mode": "bitwise"}
  })",
                                         {.source_name = "test", .overrides = overrides});
  EXPECT_TRUE(experiment.ok()) << experiment.status().message();
  return *experiment;
}

using State = std::vector<std::pair<std::string, at::Tensor>>;

State CopyOf(const Trainer& trainer) {
  State copy;
  for (const auto& [name, tensor] : trainer.State()) copy.emplace_back(name, tensor.to(at::kCPU).clone());
  return copy;
}

// A run of one process, as run.cc drives it.
struct TinyRun {
  TinyRun(const std::string& folder, const std::vector<std::string>& overrides,
          std::function<void()> before_write = nullptr, at::Device device = at::kCPU)
      : experiment(Tiny(overrides)),
        loader(Loader::Create(experiment, {}).value()),
        trainer(Trainer::Create(experiment, {.device = device}).value()),
        checkpointer({.experiment = &experiment,
                      .folder = folder,
                      .run = {"the run id", "the bundle"},
                      .device = device,
                      .restored = std::nullopt,
                      .note = [this](std::string_view text) { notes.emplace_back(text); },
                      .before_write = std::move(before_write)},
                     *trainer, *loader) {}

  void Step() {
    const auto result =
        trainer->Step(loader->Next().value(), /*wants_to_stop=*/false, [this] { checkpointer.BeforeUpdate(); });
    EXPECT_TRUE(result.ok()) << result.status();
    tokens += 32;
  }
  // Steps until the trainer has done `last`, saving what is due.
  void RunTo(int64_t last) {
    while (trainer->step() < last) {
      Step();
      if (!checkpointer.IsDue()) continue;
      const absl::Status saved = checkpointer.Save(tokens);
      EXPECT_TRUE(saved.ok()) << saved;
    }
  }
  std::string Notes() const { return absl::StrJoin(notes, "\n"); }

  config::Experiment experiment;
  std::unique_ptr<Loader> loader;
  std::unique_ptr<Trainer> trainer;
  std::vector<std::string> notes;
  int64_t tokens = 0;
  Checkpointer checkpointer;
};

class CheckpointerTest : public testing::Test {
 protected:
  CheckpointerTest()
      : folder_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
  }

  std::vector<int64_t> Steps() const {
    std::vector<int64_t> steps;
    const std::vector<StoredStep> stored = ListCheckpoints(folder_).value();
    for (const StoredStep& step : stored) steps.push_back(step.step);
    return steps;
  }
  std::string Step(int64_t step) const { return absl::StrCat(folder_, "/step-", step); }
  void ExpectHolds(int64_t step, const State& state) const {
    const auto checkpoint = OpenCheckpoint(Step(step));
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_TRUE(checkpoint->Verify().ok());
    EXPECT_EQ(checkpoint->index().tensors.size(), state.size());
    for (const auto& [name, tensor] : state) EXPECT_TRUE(at::equal(checkpoint->Load(name).value(), tensor)) << name;
  }

  const std::string folder_;
};

constexpr char kAsync[] = "checkpoint.async_mode=async";

TEST_F(CheckpointerTest, SavesTheFirstTheLastAndEachIntervalsStep) {
  for (const char* mode : {"disabled", "async", "async_with_pinned_mem"}) {
    fs::remove_all(folder_);
    TinyRun run(folder_, {absl::StrCat("checkpoint.async_mode=", mode), "checkpoint.interval=4", "training.steps=9",
                          "checkpoint.enable_first_step_checkpoint=true"});
    run.RunTo(9);
    ASSERT_TRUE(run.checkpointer.Finish(/*is_end=*/true, run.tokens).ok());
    EXPECT_THAT(Steps(), ElementsAre(1, 4, 8, 9)) << mode;
    ExpectHolds(9, CopyOf(*run.trainer));
    EXPECT_EQ(run.checkpointer.failed_saves(), 0);
    EXPECT_GT(run.checkpointer.TakeSeconds(), 0);
    EXPECT_EQ(run.checkpointer.TakeSeconds(), 0);
    EXPECT_GT(run.checkpointer.TakeWriteSeconds(), 0);
    EXPECT_EQ(run.checkpointer.TakeWriteSeconds(), 0);
    EXPECT_THAT(run.Notes(), HasSubstr("step-8 in "));
  }
}

TEST_F(CheckpointerTest, KeepsTheLatest) {
  TinyRun run(folder_, {kAsync, "checkpoint.keep_latest_k=2", "checkpoint.interval=1"});
  run.RunTo(7);
  ASSERT_TRUE(run.checkpointer.Finish(/*is_end=*/false, run.tokens).ok());
  EXPECT_THAT(Steps(), ElementsAre(6, 7));
}

// What is written is the state as it was, though training has gone on before the first byte is written.
TEST_F(CheckpointerTest, TrainingGoesOnWhileTheCopyIsWritten) {
  for (const at::Device device : {at::Device(at::kCPU), at::Device(at::kCUDA, 0)}) {
    if (device.is_cuda() && !at::globalContext().hasCUDA()) continue;
    for (const char* mode : {"async", "async_with_pinned_mem"}) {
      fs::remove_all(folder_);
      std::promise<void> gate;
      std::shared_future<void> open = gate.get_future().share();
      TinyRun run(
          folder_, {absl::StrCat("checkpoint.async_mode=", mode), "checkpoint.interval=2"}, [open] { open.wait(); },
          device);
      run.RunTo(2);
      const State expected = CopyOf(*run.trainer);
      run.Step();
      EXPECT_FALSE(run.checkpointer.IsDue());
      EXPECT_THAT(Steps(), ElementsAre());
      EXPECT_FALSE(at::equal(expected[0].second, CopyOf(*run.trainer)[0].second));
      gate.set_value();
      run.checkpointer.WaitForWriter();
      ExpectHolds(2, expected);
    }
  }
}

// A save that is due waits for the one before, and says so.
TEST_F(CheckpointerTest, ASlowDiskHoldsTheNextSaveUp) {
  std::promise<void> gate;
  std::shared_future<void> open = gate.get_future().share();
  TinyRun run(folder_, {kAsync, "checkpoint.interval=2"}, [open] { open.wait(); });
  run.RunTo(3);
  run.Step();
  ASSERT_TRUE(run.checkpointer.IsDue());
  run.checkpointer.TakeSeconds();
  std::thread disk([&gate] {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    gate.set_value();
  });
  EXPECT_TRUE(run.checkpointer.Save(run.tokens).ok());
  disk.join();
  EXPECT_GT(run.checkpointer.TakeSeconds(), 0.1);
  EXPECT_THAT(run.Notes(), HasSubstr("for the checkpoint of step 2 to be written"));
  ASSERT_TRUE(run.checkpointer.Finish(/*is_end=*/false, run.tokens).ok());
  EXPECT_THAT(Steps(), ElementsAre(2, 4));
}

// Where the folder should be there is a file, for a while.
TEST_F(CheckpointerTest, AFailedSaveIsReportedAndTrainingGoesOn) {
  for (const char* mode : {"disabled", "async"}) {
    fs::remove_all(folder_);
    TinyRun run(folder_, {absl::StrCat("checkpoint.async_mode=", mode), "checkpoint.interval=2"});
    run.RunTo(2);
    run.checkpointer.WaitForWriter();
    fs::rename(folder_, folder_ + "-aside");
    ASSERT_TRUE(WriteFileAtomically(folder_, "").ok());
    run.RunTo(5);
    run.checkpointer.WaitForWriter();
    EXPECT_EQ(run.checkpointer.failed_saves(), 1) << mode;
    EXPECT_THAT(run.Notes(), HasSubstr("WARNING: checkpoint failed (1 so far): "));
    EXPECT_THAT(run.Notes(), HasSubstr("The newest one is of step 2"));
    fs::remove(folder_);
    fs::rename(folder_ + "-aside", folder_);
    run.RunTo(6);
    ASSERT_TRUE(run.checkpointer.Finish(/*is_end=*/false, run.tokens).ok());
    EXPECT_THAT(Steps(), ElementsAre(2, 6)) << mode;
  }
}

TEST_F(CheckpointerTest, TheFailureOfTheLastSaveIsAnError) {
  TinyRun run(folder_, {kAsync, "checkpoint.interval=2"});
  ASSERT_TRUE(WriteFileAtomically(folder_, "").ok());
  run.RunTo(3);
  const absl::Status status = run.checkpointer.Finish(/*is_end=*/false, run.tokens);
  EXPECT_THAT(status.message(), HasSubstr("the last checkpoint, of step 3, could not be written"));
  EXPECT_EQ(run.checkpointer.failed_saves(), 2);
  EXPECT_THAT(run.Notes(), HasSubstr("There is none of this run yet"));
}

// The save of the last step fails in the background, and is tried again at the end.
TEST_F(CheckpointerTest, ALastStepThatIsNotOnDiskIsSavedAgain) {
  TinyRun run(folder_, {kAsync, "checkpoint.interval=2"});
  ASSERT_TRUE(WriteFileAtomically(folder_, "").ok());
  run.RunTo(2);
  run.checkpointer.WaitForWriter();
  EXPECT_EQ(run.checkpointer.failed_saves(), 1);
  fs::remove(folder_);
  EXPECT_TRUE(run.checkpointer.Finish(/*is_end=*/false, run.tokens).ok());
  ExpectHolds(2, CopyOf(*run.trainer));
}

TEST_F(CheckpointerTest, TheLastSaveMayHoldTheModelAlone) {
  TinyRun run(folder_, {kAsync, "checkpoint.last_save_model_only=true", "checkpoint.export_dtype=bfloat16",
                        "training.steps=4", "checkpoint.interval=2"});
  run.RunTo(4);
  ASSERT_TRUE(run.checkpointer.Finish(/*is_end=*/true, run.tokens).ok());
  EXPECT_THAT(Steps(), ElementsAre(2, 4));
  State expected;
  for (const auto& [name, tensor] : run.trainer->State()) {
    if (name.rfind("model.", 0) == 0) expected.emplace_back(name, tensor.to(at::kBFloat16));
  }
  ExpectHolds(4, expected);

  // Nothing is left to be done after it; more steps need an optimizer's state.
  TinyRun same(folder_, {"training.steps=4"});
  const auto restored = RestoreProgress(Step(4), same.experiment, "the run id", *same.trainer, *same.loader);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_TRUE(restored->model_only);
  EXPECT_EQ(same.trainer->step(), 4);
  TinyRun longer(folder_, {"training.steps=5"});
  EXPECT_THAT(
      RestoreProgress(Step(4), longer.experiment, "the run id", *longer.trainer, *longer.loader).status().message(),
      HasSubstr("holds the model alone"));
}

// A folder that the Hugging Face library loads, beside the files of the step, which stays a checkpoint.
TEST_F(CheckpointerTest, TheLastSaveMayBeAHuggingFaceFolder) {
  TinyRun run(folder_, {kAsync, "checkpoint.last_save_model_only=true", "checkpoint.last_save_in_hf=true",
                        "checkpoint.export_dtype=bfloat16", "training.steps=4", "checkpoint.interval=2"});
  run.RunTo(3);
  ASSERT_TRUE(run.checkpointer.Finish(/*is_end=*/false, run.tokens).ok());
  EXPECT_FALSE(fs::exists(Step(3) + "/hf")) << "it was preempted";
  run.RunTo(4);
  ASSERT_TRUE(run.checkpointer.Finish(/*is_end=*/true, run.tokens).ok());
  EXPECT_FALSE(fs::exists(Step(2) + "/hf"));
  const auto hf = OpenHf(Step(4) + "/hf");
  ASSERT_TRUE(hf.ok()) << hf.status();
  State expected;
  for (const auto& [name, tensor] : run.trainer->State()) {
    if (name.rfind("model.", 0) != 0) continue;
    expected.emplace_back(name, tensor.to(at::kBFloat16));
    EXPECT_TRUE(at::equal(hf->Load(name.substr(6), at::kBFloat16).value(), expected.back().second)) << name;
  }
  ExpectHolds(4, expected);

  // Of a run that was killed before, it is made up for.
  fs::remove_all(Step(4) + "/hf");
  ASSERT_TRUE(run.checkpointer.Finish(/*is_end=*/true, run.tokens).ok());
  EXPECT_TRUE(OpenHf(Step(4) + "/hf").ok());
  EXPECT_THAT(run.Notes(), HasSubstr("Hugging Face folder "));
}

// Of another run's checkpoint, what is excluded begins anew; of its own, nothing does.
TEST_F(CheckpointerTest, WhatIsExcludedBeginsAnew) {
  TinyRun run(folder_, {"checkpoint.interval=3", "training.steps=20", "lr_scheduler.warmup_steps=10"});
  run.RunTo(3);
  const std::vector<std::string> flags = {
      "checkpoint.interval=5", "training.steps=20", "lr_scheduler.warmup_steps=10",
      R"(checkpoint.exclude_from_loading=["optimizer", "lr_scheduler", "dataloader"])"};
  TinyRun other(folder_ + "-other", flags);
  const std::string beginning = other.loader->State();
  const auto restored = RestoreProgress(Step(3), other.experiment, "another", *other.trainer, *other.loader);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_THAT(restored->left_out, ElementsAre("optimizer", "lr_scheduler", "dataloader"));
  EXPECT_EQ(other.trainer->step(), 3);
  EXPECT_EQ(other.trainer->lr(), TinyRun(folder_ + "-new", flags).trainer->lr());
  EXPECT_NE(other.trainer->lr(), run.trainer->lr());
  EXPECT_EQ(other.loader->State(), beginning);
  EXPECT_NE(run.loader->State(), beginning);
  const State before = CopyOf(*run.trainer), after = CopyOf(*other.trainer);
  for (size_t i = 0; i < before.size(); ++i) {
    const bool is_model = before[i].first.rfind("model.", 0) == 0;
    EXPECT_EQ(at::equal(before[i].second, after[i].second), is_model) << before[i].first;
    if (!is_model) {
      EXPECT_EQ(after[i].second.abs().max().item<float>(), 0) << before[i].first;
    }
  }

  // It goes on as it would have, after a checkpoint of its own.
  fs::remove_all(folder_);
  TinyRun again(folder_ + "-other", flags);
  other.RunTo(5);
  ASSERT_TRUE(other.checkpointer.Finish(/*is_end=*/false, other.tokens).ok());
  other.RunTo(7);
  const auto own =
      RestoreProgress(folder_ + "-other/step-5", again.experiment, "the run id", *again.trainer, *again.loader);
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_TRUE(own->left_out.empty());
  EXPECT_EQ(again.trainer->schedule_start(), 3);
  EXPECT_EQ(again.trainer->optimizer_start(), 3);
  again.RunTo(7);
  const State expected = CopyOf(*other.trainer), actual = CopyOf(*again.trainer);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(at::equal(expected[i].second, actual[i].second)) << expected[i].first;
  }
  fs::remove_all(folder_ + "-other");
}

TEST_F(CheckpointerTest, APreemptedRunSavesEverything) {
  TinyRun run(folder_, {"checkpoint.last_save_model_only=true", "training.steps=4"});
  run.RunTo(3);
  ASSERT_TRUE(run.checkpointer.Finish(/*is_end=*/false, run.tokens).ok());
  ExpectHolds(3, CopyOf(*run.trainer));
}

TEST_F(CheckpointerTest, AnotherRunIsNotContinued) {
  TinyRun run(folder_, {});
  run.RunTo(2);
  ASSERT_TRUE(run.checkpointer.Finish(/*is_end=*/false, run.tokens).ok());
  EXPECT_TRUE(CheckSameRun(Step(2), run.experiment, {"the run id", "the bundle"}).ok());
  const absl::Status status =
      CheckSameRun(Step(2), Tiny({"training.steps=20", "optimizer.lr=0.5"}), {"another", "the bundle"});
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  for (const char* part : {"run id the run id, this is another", "training.steps: 10 there, 20 here",
                           "optimizer.lr: 0.01 there, 0.5 here", "--allow_digest_change"}) {
    EXPECT_THAT(status.message(), HasSubstr(part));
  }
  EXPECT_THAT(CheckSameRun(Step(2), run.experiment, {"another", "new"}).message(),
              HasSubstr("the bundle (program, data, configuration): the bundle there, new here"));
  EXPECT_FALSE(CheckSameRun(Step(2), run.experiment, {"another", "the bundle"}).ok());
}

TEST_F(CheckpointerTest, RunsWithoutCheckpointsSaveNothing) {
  for (const char* off : {"checkpoint.enable=false", "checkpoint.load_only=true"}) {
    TinyRun run(folder_, {off});
    run.RunTo(4);
    EXPECT_TRUE(run.checkpointer.Finish(/*is_end=*/true, run.tokens).ok());
    EXPECT_FALSE(fs::exists(folder_));
  }
}

}  // namespace
}  // namespace titan
