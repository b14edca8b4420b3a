#include "titan/checkpoint/store.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "titan/base/crc32c.h"
#include "titan/base/file.h"
#include "titan/checkpoint/save.h"

namespace titan {
namespace {

namespace fs = std::filesystem;

std::string Fresh(const std::string& name) {
  const std::string path = testing::TempDir() + "/" + name;
  fs::remove_all(path);
  return path;
}

CheckpointContents Contents(int64_t step) {
  const auto value = static_cast<float>(step);
  return {.step = step,
          .tensors = {{"model.w", at::arange(12, at::kFloat).view({3, 4}).add(value)},
                      {"optimizer.exp_avg.w", at::full({3, 4}, value)},
                      {"model.bf16", at::full({5}, value).to(at::kBFloat16)},
                      {"model.scalar", at::full({}, step, at::kLong)}},
          .state = absl::StrCat("{\"step\": ", step, "}"),
          .experiment = std::string("binary\0bytes", 12)};
}

void ExpectEqual(const Checkpoint& checkpoint, const CheckpointContents& contents) {
  EXPECT_EQ(checkpoint.step(), contents.step);
  EXPECT_EQ(checkpoint.state(), contents.state);
  EXPECT_EQ(checkpoint.experiment(), contents.experiment);
  EXPECT_EQ(checkpoint.index().tensors.size(), contents.tensors.size());
  for (const auto& [name, tensor] : contents.tensors) {
    const auto loaded = checkpoint.Load(name);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(loaded->scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(*loaded, tensor)) << name;
  }
}

// What a user who opens and checks the folder is told; "" if all is well.
std::string Complaint(const std::string& path) {
  const auto checkpoint = OpenCheckpoint(path);
  const absl::Status status = checkpoint.ok() ? checkpoint->Verify() : checkpoint.status();
  return std::string(status.message());
}

std::vector<std::string> NamesIn(const std::string& dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

TEST(Store, RoundTrip) {
  const std::string dir = Fresh("round_trip/checkpoint");
  EXPECT_TRUE(absl::IsNotFound(FindLatest(dir).status()));
  const auto path = SaveCheckpoint(dir, Contents(20));
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, dir + "/step-20");
  EXPECT_EQ(NamesIn(*path),
            (Names{"COMMITTED", "experiment.binpb", "index.json", "shard-00000.safetensors", "state.json"}));
  const auto latest = FindLatest(dir);
  ASSERT_TRUE(latest.ok()) << latest.status();
  EXPECT_EQ(latest->step, 20);
  const auto checkpoint = OpenCheckpoint(latest->path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ExpectEqual(*checkpoint, Contents(20));
  EXPECT_TRUE(checkpoint->Verify().ok());
  EXPECT_TRUE(absl::IsNotFound(checkpoint->Load("missing").status()));
}

// Resumed runs are compared bit for bit; the files should be too.
TEST(Store, BytesDependOnTheContentsAlone) {
  const std::string a = SaveCheckpoint(Fresh("same_a"), Contents(3)).value();
  const std::string b = SaveCheckpoint(Fresh("same_b"), Contents(3)).value();
  for (const std::string& name : NamesIn(a)) {
    EXPECT_EQ(ReadFile(a + "/" + name).value(), ReadFile(b + "/" + name).value()) << name;
  }
}

TEST(Store, LatestIsTheNewestCommitted) {
  const std::string dir = Fresh("latest");
  for (const int64_t step : {5, 100, 20}) ASSERT_TRUE(SaveCheckpoint(dir, Contents(step)).ok());
  ASSERT_TRUE(MakeDirectories(dir + "/step-200").ok());  // not committed
  ASSERT_TRUE(MakeDirectories(dir + "/step-0300").ok());
  ASSERT_TRUE(MakeDirectories(dir + "/step-x").ok());
  ASSERT_TRUE(WriteFileAtomically(dir + "/step-400", "a file").ok());
  EXPECT_EQ(FindLatest(dir)->step, 100);
  const std::vector<StoredStep> stored = ListCheckpoints(dir).value();
  std::vector<int64_t> steps;
  for (const StoredStep& step : stored) steps.push_back(step.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{5, 20, 100}));
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenCheckpoint(dir + "/step-200").status()));
  EXPECT_TRUE(absl::IsNotFound(OpenCheckpoint(dir + "/step-1").status()));
  fs::remove(dir + "/step-100/COMMITTED");
  EXPECT_EQ(FindLatest(dir)->step, 20);
}

TEST(Store, SavingAStepAgainReplacesIt) {
  const std::string dir = Fresh("again");
  ASSERT_TRUE(SaveCheckpoint(dir, Contents(7)).ok());
  CheckpointContents other = Contents(7);
  other.state = "{\"other\": true}";
  ASSERT_TRUE(SaveCheckpoint(dir, other).ok());
  ExpectEqual(OpenCheckpoint(dir + "/step-7").value(), other);
  EXPECT_EQ(NamesIn(dir), Names{"step-7"});
}

TEST(Store, PruneKeepsTheNewest) {
  const std::string dir = Fresh("prune");
  EXPECT_TRUE(PruneCheckpoints(dir, 2).ok());  // nothing there yet
  for (const int64_t step : {1, 2, 3, 10}) ASSERT_TRUE(SaveCheckpoint(dir, Contents(step)).ok());
  ASSERT_TRUE(MakeDirectories(dir + "/step-4").ok());      // incomplete and old
  ASSERT_TRUE(MakeDirectories(dir + "/step-11").ok());     // incomplete and newer: perhaps being copied here
  ASSERT_TRUE(MakeDirectories(dir + "/step-9.tmp").ok());  // left by a crash
  ASSERT_TRUE(MakeDirectories(dir + "/notes.tmp").ok());   // somebody else's
  ASSERT_TRUE(PruneCheckpoints(dir, 0).ok());
  EXPECT_EQ(NamesIn(dir), (Names{"notes.tmp", "step-1", "step-10", "step-11", "step-2", "step-3"}));
  ASSERT_TRUE(PruneCheckpoints(dir, 2).ok());
  EXPECT_EQ(NamesIn(dir), (Names{"notes.tmp", "step-10", "step-11", "step-3"}));
  ASSERT_TRUE(PruneCheckpoints(dir, 5).ok());
  EXPECT_EQ(NamesIn(dir), (Names{"notes.tmp", "step-10", "step-11", "step-3"}));
}

TEST(Store, PruneLeavesLaterStepsAlone) {
  const std::string dir = Fresh("prune_later");
  for (const int64_t step : {1, 2, 3, 10, 11}) ASSERT_TRUE(SaveCheckpoint(dir, Contents(step)).ok());
  ASSERT_TRUE(PruneCheckpoints(dir, 2, /*last_step=*/3).ok());
  EXPECT_EQ(NamesIn(dir), (Names{"step-10", "step-11", "step-2", "step-3"}));
}

TEST(Store, BadContentsAreRefusedBeforeAnythingIsWritten) {
  const std::string dir = Fresh("bad");
  ASSERT_TRUE(SaveCheckpoint(dir, Contents(1)).ok());
  CheckpointContents contents = Contents(2);
  contents.state = "not json";
  EXPECT_TRUE(absl::IsInvalidArgument(SaveCheckpoint(dir, contents).status()));
  contents = Contents(-1);
  EXPECT_TRUE(absl::IsInvalidArgument(SaveCheckpoint(dir, contents).status()));
  contents = Contents(2);
  contents.tensors.push_back(contents.tensors.front());
  const auto status = SaveCheckpoint(dir, contents).status();
  EXPECT_NE(status.message().find("model.w"), std::string::npos) << status;
  EXPECT_EQ(NamesIn(dir), Names{"step-1"});
  ASSERT_TRUE(WriteFileAtomically(dir + "/file", "").ok());
  EXPECT_FALSE(SaveCheckpoint(dir + "/file", Contents(2)).ok());
}

TEST(Store, EveryFlippedByteIsFound) {
  const std::string path = SaveCheckpoint(Fresh("flip"), Contents(1)).value();
  ASSERT_EQ(Complaint(path), "");
  for (const std::string& name : NamesIn(path)) {
    const std::string file = path + "/" + name;
    const std::string good = ReadFile(file).value();
    for (size_t i = 0; i < good.size(); i += 1 + good.size() / 200) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 0x10);
      ASSERT_TRUE(WriteFileAtomically(file, bad).ok());
      const std::string complaint = Complaint(path);
      EXPECT_NE(complaint.find(file), std::string::npos) << name << " byte " << i << ": " << complaint;
    }
    ASSERT_TRUE(WriteFileAtomically(file, good).ok());
  }
  ASSERT_EQ(Complaint(path), "");
}

TEST(Store, DamageInATensorNamesIt) {
  const std::string path = SaveCheckpoint(Fresh("tensor"), Contents(1)).value();
  const std::string shard = path + "/shard-00000.safetensors";
  std::string bytes = ReadFile(shard).value();
  bytes.back() = static_cast<char>(bytes.back() ^ 1);  // model.scalar is the last one
  ASSERT_TRUE(WriteFileAtomically(shard, bytes).ok());
  const Checkpoint checkpoint = OpenCheckpoint(path).value();
  EXPECT_TRUE(checkpoint.Load("model.w").ok());
  const auto damaged = checkpoint.Load("model.scalar");
  EXPECT_TRUE(absl::IsDataLoss(damaged.status()));
  for (const std::string& part : {shard, std::string("model.scalar")}) {
    EXPECT_NE(damaged.status().message().find(part), std::string::npos) << damaged.status();
    EXPECT_NE(checkpoint.Verify().message().find(part), std::string::npos);
  }
}

TEST(Store, TruncatedAndMissingFilesAreNamed) {
  const std::string path = SaveCheckpoint(Fresh("cut"), Contents(1)).value();
  for (const std::string& name : NamesIn(path)) {
    const std::string file = path + "/" + name;
    const std::string good = ReadFile(file).value();
    for (const size_t length : {size_t{0}, good.size() / 2, good.size() - 1}) {
      ASSERT_TRUE(WriteFileAtomically(file, good.substr(0, length)).ok());
      EXPECT_NE(Complaint(path).find(file), std::string::npos) << name << length << Complaint(path);
    }
    ASSERT_TRUE(WriteFileAtomically(file, good + "x").ok());
    EXPECT_NE(Complaint(path).find(file), std::string::npos) << name << Complaint(path);
    fs::remove(file);
    EXPECT_NE(Complaint(path).find(name), std::string::npos) << name << Complaint(path);
    ASSERT_TRUE(WriteFileAtomically(file, good).ok());
  }
  ASSERT_EQ(Complaint(path), "");
}

// The layout that many ranks will write: pieces of one tensor in two shards. Written by hand here.
TEST(Store, PiecesAreAssembled) {
  const std::string path = Fresh("pieces") + "/step-4";
  ASSERT_TRUE(MakeDirectories(path).ok());
  const at::Tensor whole = at::arange(24, at::kFloat).view({4, 6});
  CheckpointIndex index;
  index.step = 4;
  CheckpointIndex::Tensor& tensor = index.tensors["model.w"];
  tensor.dtype = StoredDtype::kF32;
  tensor.shape = {4, 6};
  for (const int64_t start : {0, 2}) {  // columns 0-1 and 2-5
    const int64_t width = start == 0 ? 2 : 4;
    const std::string file = absl::StrCat("shard-0000", start, ".safetensors");
    const at::Tensor part = whole.narrow(1, start, width).contiguous();
    ASSERT_TRUE(WriteTensors(path + "/" + file, {{"model.w", part}}).ok());
    const auto shard = SafetensorsFile::Open(path + "/" + file).value();
    const auto text = [](absl::Span<const std::byte> bytes) {
      return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    };
    index.shards[file] = {static_cast<int64_t>(fs::file_size(path + "/" + file)), Crc32c(text(shard->header()))};
    tensor.pieces.push_back({file, {0, start}, {4, width}, Crc32c(text(BytesOf(part)))});
  }
  CommittedFiles committed;
  for (const auto& [name, text] :
       {std::make_pair("index.json", FormatIndex(index)), std::make_pair("state.json", std::string("{}")),
        std::make_pair("experiment.binpb", std::string())}) {
    ASSERT_TRUE(WriteFileAtomically(path + "/" + name, text).ok());
    committed[name] = {static_cast<int64_t>(text.size()), Crc32c(text)};
  }
  ASSERT_TRUE(WriteFileAtomically(path + "/COMMITTED", FormatCommitted(committed)).ok());
  const auto checkpoint = OpenCheckpoint(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(at::equal(checkpoint->Load("model.w").value(), whole));
}

}  // namespace
}  // namespace titan
