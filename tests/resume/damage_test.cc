// A run whose newest checkpoint was damaged: it ends with an error that names the file, and touches nothing, or it goes
// on from the step before if there is no newer one that was committed. It never begins anew.

#include <filesystem>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/resume/trainer_runs.h"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

constexpr int kSteps = 8;

constexpr char kExperiment[] = R"({
  "model": {"name": "llama3", "dim": 16, "n_layers": 1, "n_heads": 2, "ffn_hidden_dim": 24, "vocab_size": 64},
  "data": {"sources": [{"corpus": "words", "format": "tokens"}]},
  "training": {"seq_len": 16, "local_batch_size": 1, "global_batch_size": 2, "steps": 8,
               "mixed_precision_param": "float32"},
  "optimizer": {"lr": 0.01},
  "lr_scheduler": {"warmup_steps": 2},
  "checkpoint": {"enable": true, "interval": 2, "keep_latest_k": 0, "async_mode": "async"},
  "determinism": {"mode": "bitwise"}
})";

class DamageTest : public TrainerRunTest {
 protected:
  DamageTest() : TrainerRunTest(kExperiment) { EXPECT_EQ(Run("straight"), 0) << Log(); }

  // The run as it was after step 6, of which `damage` changes one file.
  void Damage(const std::string& file, const std::function<void(const std::string& path)>& damage) const {
    fs::remove_all(Path("case"));
    fs::copy(Path("straight"), Path("case"), fs::copy_options::recursive);
    fs::remove_all(Path("case/checkpoint/step-8"));
    damage(Path("case/checkpoint/step-6/" + file));
    fs::remove(Path("log"));
  }
  void ExpectRefused(const std::string& reason) const {
    EXPECT_EQ(Run("case"), 1) << Log();
    EXPECT_THAT(Log(), HasSubstr(reason));
    EXPECT_TRUE(fs::exists(Path("case/checkpoint/step-6")));
    EXPECT_EQ(Lines("case/metrics.jsonl").size(), static_cast<size_t>(kSteps));
    EXPECT_FALSE(fs::exists(Path("case/aborted-1")));
  }
  void ExpectContinuesAfter(int step) const {
    EXPECT_EQ(Run("case"), 0) << Log();
    EXPECT_THAT(Log(), HasSubstr(absl::StrCat("continues after step ", step)));
    ExpectSameSteps("straight", "case", kSteps);
    ExpectSameFiles("straight/checkpoint/step-8", "case/checkpoint/step-8");
  }
};

constexpr const char* kFiles[] = {"shard-00000.safetensors", "index.json", "state.json", "experiment.binpb"};

TEST_F(DamageTest, ATruncatedFileIsNamed) {
  for (const char* file : kFiles) {
    Damage(file, [](const std::string& path) { fs::resize_file(path, fs::file_size(path) - 1); });
    ExpectRefused(absl::StrCat("step-6/", file, ": damaged: "));
  }
}

TEST_F(DamageTest, AFlippedByteIsNamed) {
  for (const char* file : kFiles) {
    Damage(file, [](const std::string& path) {
      std::string content = ReadFile(path).value();
      content[content.size() - 3] ^= 1;
      ASSERT_TRUE(WriteFileAtomically(path, content).ok());
    });
    ExpectRefused(absl::StrCat("step-6/", file, ": "));
    EXPECT_THAT(Log(), HasSubstr("damaged: its checksum does not match"));
  }
}

TEST_F(DamageTest, ADeletedFileIsNamed) {
  for (const char* file : kFiles) {
    Damage(file, [](const std::string& path) { fs::remove(path); });
    ExpectRefused(absl::StrCat("step-6/", file, ": the file is missing"));
  }
}

TEST_F(DamageTest, ADamagedCommitmentIsNamedAndAMissingOneIsNoCheckpoint) {
  Damage("COMMITTED", [](const std::string& path) { fs::resize_file(path, 10); });
  ExpectRefused("step-6/COMMITTED: damaged");
  Damage("COMMITTED", [](const std::string& path) { fs::remove(path); });
  ExpectContinuesAfter(4);
}

// What the error tells the user to do.
TEST_F(DamageTest, WithoutTheDamagedStepItContinuesFromTheOneBefore) {
  Damage("", [](const std::string& path) { fs::remove_all(path); });
  ExpectContinuesAfter(4);
}

}  // namespace
}  // namespace titan
