// Checkpoints written again in another number of files, and compared.

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/checkpoint/compare.h"
#include "titan/checkpoint/reshard.h"
#include "titan/checkpoint/save.h"
#include "titan/checkpoint/store.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

constexpr int64_t kStep = 7;

// Every kind of tensor; bits that arithmetic would change.
CheckpointContents Contents() {
  at::Tensor odd = at::arange(21, at::kFloat).view({7, 3}).clone();
  const uint32_t signalling_nan = 0x7fa00001, minus_zero = 0x80000000;
  std::memcpy(odd.data_ptr<float>() + 4, &signalling_nan, 4);
  std::memcpy(odd.data_ptr<float>() + 5, &minus_zero, 4);
  return {.step = kStep,
          .tensors = {{"model.a", at::arange(1000, at::kFloat).view({50, 20})},
                      {"model.b", at::arange(60, at::kFloat).view({3, 4, 5}).to(at::kBFloat16)},
                      {"model.empty", at::empty({0, 4})},
                      {"model.odd", odd},
                      {"model.scalar", at::full({}, 2.5)},
                      {"optimizer.exp_avg.a", at::arange(1000, at::kDouble).view({50, 20})},
                      {"optimizer.steps", at::arange(3, at::kLong)}},
          .state = R"({"step": 7})",
          .experiment = "an experiment"};
}

class RewriteTest : public testing::Test {
 protected:
  RewriteTest() : folder_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
  }

  std::string Saved(const std::string& name, const CheckpointContents& contents) const {
    return SaveCheckpoint(folder_ + "/" + name, contents).value();
  }
  std::string Resharded(const std::string& step, const std::string& name, int64_t shards) const {
    const auto path = Reshard(OpenCheckpoint(step).value(), folder_ + "/" + name, shards);
    EXPECT_TRUE(path.ok()) << path.status();
    return path.value_or("");
  }
  Comparison Compared(const std::string& left, const std::string& right) const {
    return Compare(OpenTensorSource(left).value(), OpenTensorSource(right).value()).value();
  }

  const std::string folder_;
};

TEST_F(RewriteTest, AnyNumberOfFilesHoldsTheSameBits) {
  const CheckpointContents contents = Contents();
  std::string step = Saved("source", contents);
  // Each from the one before, so that pieces are cut again in other places.
  for (const int64_t shards : {3, 1, 8, 300, 7}) {
    step = Resharded(step, absl::StrCat("in", shards), shards);
    const Checkpoint checkpoint = OpenCheckpoint(step).value();
    EXPECT_TRUE(checkpoint.Verify().ok());
    EXPECT_EQ(checkpoint.step(), kStep);
    EXPECT_EQ(checkpoint.state(), contents.state);
    EXPECT_EQ(checkpoint.experiment(), contents.experiment);
    ASSERT_EQ(checkpoint.index().tensors.size(), contents.tensors.size());
    for (const auto& [name, tensor] : contents.tensors) {
      const at::Tensor read = checkpoint.Load(name).value();
      ASSERT_EQ(read.scalar_type(), tensor.scalar_type()) << name;
      ASSERT_EQ(read.sizes(), tensor.sizes()) << name;
      EXPECT_EQ(std::memcmp(read.const_data_ptr(), tensor.const_data_ptr(), tensor.nbytes()), 0) << name;
    }
    EXPECT_EQ(checkpoint.index().shards.size(), static_cast<size_t>(shards));
  }
}

TEST_F(RewriteTest, TheFilesAreOfOneSize) {
  const Checkpoint checkpoint = OpenCheckpoint(Resharded(Saved("source", Contents()), "in4", 4)).value();
  std::map<std::string, int64_t> bytes;
  for (const auto& [name, tensor] : checkpoint.index().tensors) {
    for (const CheckpointIndex::Piece& piece : tensor.pieces) {
      bytes[piece.file] += NumBytes(tensor.dtype, piece.shape).value();
    }
  }
  ASSERT_EQ(bytes.size(), 4u);
  for (const auto& [file, count] : bytes) EXPECT_NEAR(static_cast<double>(count), 12232.0 / 4, 8) << file;
}

TEST_F(RewriteTest, MoreFilesThanElementsAreNotWritten) {
  const CheckpointContents contents{
      .step = 1, .tensors = {{"model.x", at::full({3}, 1.5)}}, .state = "{}", .experiment = ""};
  const std::string step = Saved("source", contents), path = Resharded(step, "in10", 10);
  EXPECT_EQ(OpenCheckpoint(path).value().index().shards.size(), 3u);
  EXPECT_TRUE(Compared(step, path).is_equal());
}

TEST_F(RewriteTest, WhatIsThereIsNotReplacedAndDamageIsNotCopied) {
  const std::string step = Saved("source", Contents());
  const Checkpoint checkpoint = OpenCheckpoint(step).value();
  EXPECT_TRUE(absl::IsAlreadyExists(Reshard(checkpoint, folder_ + "/source", 2).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Reshard(checkpoint, folder_ + "/x", 0).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Reshard(checkpoint, folder_ + "/x", kMaxShards + 1).status()));

  std::string shard = ReadFile(step + "/shard-00000.safetensors").value();
  shard.back() ^= 1;
  ASSERT_TRUE(WriteFileAtomically(step + "/shard-00000.safetensors", shard).ok());
  const auto path = Reshard(OpenCheckpoint(step).value(), folder_ + "/never", 3);
  EXPECT_THAT(std::string(path.status().message()), HasSubstr("\"optimizer.steps\" is damaged"));
  EXPECT_TRUE(fs::is_empty(folder_ + "/never"));
}

TEST_F(RewriteTest, TheSameIsEqualWhateverHasWrittenIt) {
  const std::string step = Saved("source", Contents());
  const Comparison comparison = Compared(step, Resharded(step, "other", 5));
  EXPECT_TRUE(comparison.is_equal());
  EXPECT_EQ(comparison.num_equal, 7);
}

TEST_F(RewriteTest, DistancesLargestFirst) {
  const CheckpointContents contents = Contents();
  CheckpointContents other = contents;
  for (auto& [name, tensor] : other.tensors) tensor = tensor.clone();
  at::Tensor& a = other.tensors[0].second;
  a.view({-1})[999].sub_(3);
  other.tensors[4].second.fill_(5);
  other.tensors[2].first = "model.new";
  other.tensors[6].second = at::arange(4, at::kLong);
  const Comparison comparison = Compared(Saved("left", contents), Saved("right", other));
  EXPECT_THAT(comparison.only_left, ElementsAre("model.empty"));
  EXPECT_THAT(comparison.only_right, ElementsAre("model.new"));
  ASSERT_EQ(comparison.different.size(), 3u);
  EXPECT_EQ(comparison.different[0].name, "optimizer.steps");
  EXPECT_THAT(comparison.different[0].right_shape, ElementsAre(4));
  EXPECT_TRUE(std::isinf(comparison.different[0].relative_l2));
  EXPECT_EQ(comparison.different[1].name, "model.scalar");
  EXPECT_EQ(comparison.different[1].max_abs, 2.5);
  EXPECT_EQ(comparison.different[1].relative_l2, 1);
  EXPECT_EQ(comparison.different[2].name, "model.a");
  EXPECT_EQ(comparison.different[2].max_abs, 3);
  // sqrt(0^2 + ... + 999^2)
  EXPECT_NEAR(comparison.different[2].relative_l2, 3 / std::sqrt(332833500.0), 1e-12);
  EXPECT_EQ(comparison.num_equal, 3);
}

TEST_F(RewriteTest, ValuesCountAndNotDtypes) {
  CheckpointContents left{.step = 1, .tensors = {{"model.x", at::full({3}, 1.5)}}, .state = "{}", .experiment = ""};
  CheckpointContents right = left;
  right.tensors[0].second = left.tensors[0].second.to(at::kBFloat16);
  EXPECT_TRUE(Compared(Saved("a", left), Saved("b", right)).is_equal());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  left.tensors[0].second = at::full({3}, nan);
  const std::string with_nan = Saved("c", left);
  EXPECT_TRUE(Compared(with_nan, with_nan).is_equal());
  const Comparison comparison = Compared(with_nan, Saved("d", right));
  ASSERT_EQ(comparison.different.size(), 1u);
  EXPECT_TRUE(std::isinf(comparison.different[0].max_abs));
  EXPECT_TRUE(std::isinf(comparison.different[0].relative_l2));
}

}  // namespace
}  // namespace titan
