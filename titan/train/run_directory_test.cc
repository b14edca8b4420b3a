#include "titan/train/run_directory.h"

#include <filesystem>
#include <string>

#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/checkpoint/save.h"
#include "titan/config/experiment.pb.h"
#include "titan/metrics/run_record.h"

namespace titan {
namespace {

class RunDirectoryTest : public testing::Test {
 protected:
  RunDirectoryTest() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    out_ = testing::TempDir() + "/" + info->name();
    std::filesystem::remove_all(out_);
    config_.set_enable(true);
  }

  void WriteRun(const std::string& run_id) {
    ASSERT_TRUE(MakeDirectories(out_).ok());
    ASSERT_TRUE(WriteRunRecord(out_ + "/run.json", StartRunRecord("test", run_id, {})).ok());
    ASSERT_TRUE(WriteFileAtomically(out_ + "/metrics.jsonl", "{}\n").ok());
  }
  void SaveStep(int64_t step) {
    CheckpointContents contents;
    contents.step = step;
    contents.state = "{}";
    const auto path = SaveCheckpoint(out_ + "/checkpoint", contents);
    ASSERT_TRUE(path.ok()) << path.status();
  }
  std::string ErrorOf(Resume resume) {
    const auto directory = PlanRunDirectory(out_, resume, config_, "id");
    EXPECT_TRUE(absl::IsInvalidArgument(directory.status())) << directory.status();
    return std::string(directory.status().message());
  }

  std::string out_;
  config::Checkpoint config_;
};

TEST_F(RunDirectoryTest, BeginsInANewDirectory) {
  const auto directory = PlanRunDirectory(out_, Resume::kAuto, config_, "id");
  ASSERT_TRUE(directory.ok()) << directory.status();
  EXPECT_EQ(directory->path, out_);
  EXPECT_EQ(directory->checkpoint, "");
  EXPECT_FALSE(std::filesystem::exists(out_));
}

TEST_F(RunDirectoryTest, ContinuesFromTheNewestCheckpoint) {
  WriteRun("another id");
  SaveStep(5);
  SaveStep(10);
  for (const Resume resume : {Resume::kAuto, Resume::kMust}) {
    const auto directory = PlanRunDirectory(out_, resume, config_, "id");
    ASSERT_TRUE(directory.ok()) << directory.status();
    EXPECT_EQ(directory->checkpoint, out_ + "/checkpoint/step-10");
    EXPECT_EQ(directory->checkpoint_step, 10);
  }
}

TEST_F(RunDirectoryTest, ContinuesFromTheStepThatIsAskedFor) {
  WriteRun("id");
  SaveStep(5);
  SaveStep(10);
  config_.set_load_step(5);
  const auto directory = PlanRunDirectory(out_, Resume::kAuto, config_, "id");
  ASSERT_TRUE(directory.ok()) << directory.status();
  EXPECT_EQ(directory->checkpoint_step, 5);
  config_.set_load_step(7);
  EXPECT_NE(ErrorOf(Resume::kAuto).find("no complete checkpoint of step 7"), std::string::npos);
}

TEST_F(RunDirectoryTest, NeverOverwritesARun) {
  WriteRun("id");
  SaveStep(5);
  EXPECT_NE(ErrorOf(Resume::kNever).find("Choose another --out"), std::string::npos);
  config_.set_enable(false);
  EXPECT_NE(ErrorOf(Resume::kAuto).find("checkpoint.enable is false"), std::string::npos);
}

TEST_F(RunDirectoryTest, MustNeedsACheckpoint) {
  EXPECT_NE(ErrorOf(Resume::kMust).find("no complete checkpoint in"), std::string::npos);
  config_.set_enable(false);
  EXPECT_NE(ErrorOf(Resume::kMust).find("--set checkpoint.enable=true"), std::string::npos);
}

// A run that was killed before its first checkpoint and is started again in the same way.
TEST_F(RunDirectoryTest, BeginsAnAbortedRunAgainAndKeepsItsOutput) {
  WriteRun("id");
  const auto directory = PlanRunDirectory(out_, Resume::kAuto, config_, "id");
  ASSERT_TRUE(directory.ok()) << directory.status();
  EXPECT_TRUE(directory->has_aborted_session);
  ASSERT_TRUE(MoveAside(*directory, config_).ok());
  EXPECT_TRUE(std::filesystem::exists(out_ + "/aborted-1/metrics.jsonl"));
  EXPECT_FALSE(std::filesystem::exists(out_ + "/metrics.jsonl"));

  WriteRun("another id");
  EXPECT_NE(ErrorOf(Resume::kAuto).find("already holds a run"), std::string::npos);
}

}  // namespace
}  // namespace titan
