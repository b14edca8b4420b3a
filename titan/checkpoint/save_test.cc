#include "titan/checkpoint/save.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/checkpoint/index.h"
#include "titan/checkpoint/store.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

constexpr int64_t kRanks = 4;

// One tensor of each kind that is shared out, with values of its own.
NamedTensors Tensors() {
  return {{"model.w", at::arange(42, at::kFloat).view({6, 7})},
          {"model.b", at::arange(9, at::kFloat).add(1000)},
          {"model.cube", at::arange(30, at::kFloat).view({2, 3, 5}).add(2000)},
          {"model.scalar", at::zeros({}, at::kFloat).add(7)}};
}

// What `rank` holds: of each tensor a run of elements, cut where nothing is aligned; nothing on the last rank.
std::vector<ShardPiece> PiecesOf(int64_t rank) {
  std::vector<ShardPiece> pieces;
  for (const auto& [name, tensor] : Tensors()) {
    const int64_t part = (tensor.numel() + kRanks - 2) / (kRanks - 1);
    const int64_t begin = std::min(rank * part, tensor.numel()), end = std::min(begin + part, tensor.numel());
    int64_t at = begin;
    for (const Box& box : BoxesOfRange(tensor.sizes().vec(), begin, end)) {
      const int64_t count = box.num_elements();
      pieces.push_back({name, tensor.sizes().vec(), box, tensor.reshape({-1}).narrow(0, at, count).view(box.shape)});
      at += count;
    }
  }
  return pieces;
}

class SaveTest : public testing::Test {
 protected:
  SaveTest() : dir_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(dir_);
  }

  SaveTask Task(int64_t rank, const std::string& id = "00aa") const {
    return {.dir = dir_, .step = 5, .id = id, .rank = rank, .world_size = kRanks};
  }
  void WriteShards(int64_t first, int64_t last) const {
    for (int64_t rank = first; rank <= last; ++rank) {
      const absl::Status status = WriteShard(Task(rank), PiecesOf(rank));
      EXPECT_TRUE(status.ok()) << status;
    }
  }
  static CommitOptions Impatient() { return {.time_limit = std::chrono::milliseconds(50)}; }
  absl::StatusOr<std::string> Commit(const CommitOptions& options = Impatient()) const {
    return CommitShards(Task(0), R"({"a": 1})", "experiment", options);
  }
  // What rank 0 says; nothing of the step is left then.
  std::string Complaint() const {
    const auto path = Commit();
    EXPECT_FALSE(path.ok());
    EXPECT_THAT(NamesIn(dir_), ElementsAre());
    return std::string(path.status().message());
  }
  static std::vector<std::string> NamesIn(const std::string& dir) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  const std::string dir_;
};

TEST_F(SaveTest, ManyWritersMakeOneCheckpoint) {
  WriteShards(0, kRanks - 1);
  const auto path = Commit();
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, dir_ + "/step-5");
  EXPECT_THAT(NamesIn(dir_), ElementsAre("step-5"));
  EXPECT_THAT(NamesIn(*path), ElementsAre("COMMITTED", "experiment.binpb", "index.json", "shard-00000.safetensors",
                                          "shard-00001.safetensors", "shard-00002.safetensors", "state.json"));
  const Checkpoint checkpoint = OpenCheckpoint(*path).value();
  EXPECT_TRUE(checkpoint.Verify().ok());
  EXPECT_EQ(checkpoint.state(), R"({"a": 1})");
  for (const auto& [name, tensor] : Tensors()) EXPECT_TRUE(at::equal(checkpoint.Load(name).value(), tensor)) << name;
}

TEST_F(SaveTest, AnyRangeIsReadWhoeverWroteIt) {
  WriteShards(0, kRanks - 1);
  const Checkpoint checkpoint = OpenCheckpoint(Commit().value()).value();
  for (const auto& [name, tensor] : Tensors()) {
    const std::vector<int64_t> shape = tensor.sizes().vec();
    for (int64_t begin = 0; begin < tensor.numel(); begin += 2) {
      for (int64_t end = begin + 1; end <= tensor.numel(); end += 3) {
        const at::Tensor out = at::empty({end - begin}, at::kDouble);  // and in another dtype
        ASSERT_TRUE(checkpoint.Read(name, shape, BoxesOfRange(shape, begin, end), out).ok());
        EXPECT_TRUE(at::equal(out, tensor.reshape({-1}).narrow(0, begin, end - begin).to(at::kDouble))) << name;
      }
    }
  }
  // Columns, as tensor parallelism cuts them.
  const at::Tensor columns = at::empty({12}, at::kFloat);
  ASSERT_TRUE(checkpoint.Read("model.w", {6, 7}, {{{0, 3}, {6, 2}}}, columns).ok());
  EXPECT_TRUE(at::equal(columns.view({6, 2}), Tensors()[0].second.narrow(1, 3, 2)));
  EXPECT_TRUE(absl::IsNotFound(checkpoint.Read("model.x", {6, 7}, {}, at::empty({0}))));
  const absl::Status other_shape = checkpoint.Read("model.w", {7, 6}, {}, at::empty({0}));
  EXPECT_THAT(other_shape.message(), HasSubstr("model.w has the shape (6, 7) where the model wants (7, 6)"));
}

TEST_F(SaveTest, OnlyWhatIsNeededIsTouched) {
  WriteShards(0, kRanks - 1);
  const std::string path = Commit().value();
  const std::string shard = path + "/shard-00001.safetensors";
  std::string bytes = ReadFile(shard).value();
  bytes.back() = static_cast<char>(bytes.back() ^ 1);  // in model.cube, since the scalar is rank 0's
  ASSERT_TRUE(WriteFileAtomically(shard, bytes).ok());
  const Checkpoint checkpoint = OpenCheckpoint(path).value();
  const auto read = [&](int64_t begin, int64_t end) {
    return checkpoint.Read("model.cube", {2, 3, 5}, BoxesOfRange({2, 3, 5}, begin, end), at::empty({end - begin}));
  };
  EXPECT_TRUE(read(0, 10).ok());
  EXPECT_TRUE(read(20, 30).ok());
  const absl::Status damaged = read(0, 30);
  EXPECT_TRUE(absl::IsDataLoss(damaged)) << damaged;
  EXPECT_THAT(damaged.message(), HasSubstr(shard));
  EXPECT_THAT(damaged.message(), HasSubstr("model.cube"));
  EXPECT_THAT(checkpoint.Verify().message(), HasSubstr(shard));
}

TEST_F(SaveTest, ADeletedOrTruncatedShardIsNamed) {
  WriteShards(0, kRanks - 1);
  const std::string path = Commit().value();
  const std::string shard = path + "/shard-00002.safetensors";
  fs::resize_file(shard, fs::file_size(shard) - 1);
  EXPECT_THAT(OpenCheckpoint(path).status().message(), HasSubstr(shard + ": damaged"));
  fs::remove(shard);
  EXPECT_THAT(OpenCheckpoint(path).status().message(), HasSubstr(shard + ": the file is missing"));
}

TEST_F(SaveTest, RankZeroWaitsForTheOthers) {
  WriteShards(0, kRanks - 2);
  std::thread late([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    WriteShards(kRanks - 1, kRanks - 1);
  });
  const auto path = Commit({.time_limit = std::chrono::minutes(5)});
  late.join();
  EXPECT_TRUE(path.ok()) << path.status();
}

TEST_F(SaveTest, AShardThatDoesNotComeIsNamed) {
  WriteShards(0, kRanks - 2);
  EXPECT_THAT(Complaint(), HasSubstr("the shard of rank 3 is not there"));
  WriteShards(0, kRanks - 2);
  const std::atomic<bool> cancelled = true;
  const auto path = Commit({.cancelled = &cancelled});
  EXPECT_TRUE(absl::IsCancelled(path.status())) << path.status();
}

TEST_F(SaveTest, ARankThatFailsSaysSo) {
  WriteShards(0, kRanks - 2);
  AbandonShard(Task(3), absl::ResourceExhaustedError("no space left"));
  EXPECT_THAT(Complaint(), HasSubstr("rank 3: no space left"));
}

// A file where a folder should be: nothing can be written.
TEST_F(SaveTest, AWriteThatFailsIsAnError) {
  ASSERT_TRUE(MakeDirectories(dir_).ok());
  ASSERT_TRUE(WriteFileAtomically(Task(1).folder(), "").ok());
  EXPECT_FALSE(WriteShard(Task(1), PiecesOf(1)).ok());
}

TEST_F(SaveTest, WhatAnotherSaveHasLeftIsNeverTaken) {
  WriteShards(0, kRanks - 1);
  const std::string part = Task(3).folder() + "/part-00003";
  const std::string good = ReadFile(part).value();
  ASSERT_TRUE(WriteShard(Task(3, "00bb"), PiecesOf(3)).ok());
  fs::rename(Task(3, "00bb").folder() + "/part-00003", part);
  fs::remove_all(Task(3, "00bb").folder());
  EXPECT_THAT(Complaint(), HasSubstr(part + ": is of rank 3, step 5, save 00bb and not of save 00aa"));

  WriteShards(0, kRanks - 1);
  fs::copy_file(Task(0).folder() + "/part-00002", part, fs::copy_options::overwrite_existing);
  EXPECT_THAT(Complaint(), HasSubstr("is of rank 2"));

  WriteShards(0, kRanks - 1);
  ASSERT_TRUE(WriteFileAtomically(part, good.substr(0, good.size() - 1)).ok());
  EXPECT_THAT(Complaint(), HasSubstr(part + ": damaged"));

  WriteShards(0, kRanks - 1);
  fs::remove(Task(0).folder() + "/shard-00001.safetensors");
  EXPECT_THAT(Complaint(), HasSubstr("shard-00001.safetensors: is not there as rank 1 has written it"));
}

TEST_F(SaveTest, PreparingRemovesWhatIsLeftOfOthers) {
  ASSERT_TRUE(WriteShard(Task(1), PiecesOf(1)).ok());
  ASSERT_TRUE(WriteShard(Task(1, "00bb"), PiecesOf(1)).ok());
  ASSERT_TRUE(PrepareSave(Task(0)).ok());
  EXPECT_THAT(NamesIn(dir_), ElementsAre("step-5.00aa.tmp"));
}

TEST_F(SaveTest, PiecesThatDoNotCoverATensorAreRefused) {
  WriteShards(0, kRanks - 2);
  ASSERT_TRUE(WriteShard(Task(3), PiecesOf(2)).ok());
  EXPECT_THAT(Complaint(), HasSubstr("its pieces have more bytes than the tensor"));
  WriteShards(0, kRanks - 1);
  ASSERT_TRUE(WriteShard(Task(1), {}).ok());
  EXPECT_THAT(Complaint(), HasSubstr("the tensor has"));
}

TEST_F(SaveTest, TheFileMayHaveAnotherDtype) {
  std::vector<ShardPiece> pieces = PiecesOf(0);
  for (ShardPiece& piece : pieces) piece.dtype = at::kBFloat16;
  SaveTask task = Task(0);
  task.world_size = 1;
  pieces.erase(std::remove_if(pieces.begin(), pieces.end(), [](const ShardPiece& p) { return !p.shape.empty(); }),
               pieces.end());
  ASSERT_TRUE(WriteShard(task, pieces).ok());
  const Checkpoint checkpoint = OpenCheckpoint(CommitShards(task, "{}", "", {}).value()).value();
  EXPECT_EQ(checkpoint.Load("model.scalar")->scalar_type(), at::kBFloat16);
  EXPECT_EQ(checkpoint.Load("model.scalar")->item<float>(), 7);
}

TEST(SaveId, IsAnotherEachTime) {
  EXPECT_NE(NewSaveId(), NewSaveId());
  EXPECT_EQ(NewSaveId().size(), 16u);
}

}  // namespace
}  // namespace titan
