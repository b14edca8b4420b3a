#include "titan/metrics/run_record.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string TestPath(const std::string& name) { return absl::StrCat(::testing::TempDir(), "/", name, ".run.json"); }

RunRecord Record() {
  RunRecord record = StartRunRecord("llama3/debug", "0123abcd", {"titan_trainer", "--bundle", "b"});
  record.session.overrides = {"training.steps=20"};
  record.versions = {{"torch", "2.11.0"}};
  record.facts = {{"device", "cpu"}};
  record.experiment_json = R"({"training": {"steps": 20}})";
  return record;
}

TEST(RunRecordTest, AStartedRun) {
  const std::string path = TestPath("started");
  ASSERT_TRUE(WriteRunRecord(path, Record()).ok());
  const nlohmann::json json = nlohmann::json::parse(ReadFile(path).value());
  EXPECT_EQ(json["name"], "llama3/debug");
  EXPECT_EQ(json["digest"], "0123abcd");
  EXPECT_EQ(json["overrides"], nlohmann::json({"training.steps=20"}));
  EXPECT_EQ(json["experiment"]["training"]["steps"], 20);
  EXPECT_EQ(json["versions"]["torch"], "2.11.0");
  EXPECT_TRUE(json["end_time"].is_null());
  EXPECT_TRUE(json["exit_code"].is_null());
  EXPECT_THAT(json["start_time"].get<std::string>(), MatchesRegex("[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9]+Z"));
  EXPECT_NE(json["host"], "");
}

TEST(RunRecordTest, AFinishedRunReadsBack) {
  const std::string path = TestPath("finished");
  RunRecord record = Record();
  record.session.last_step = 20;
  record.session.final_loss = 4.25;
  record.session.resumed_from_step = 10;
  FinishRunRecord(record, 0, "done");
  ASSERT_TRUE(WriteRunRecord(path, record).ok());
  const RunRecord read = ReadRunRecord(path).value();
  EXPECT_EQ(read.session.exit_code, 0);
  EXPECT_EQ(read.session.ending, "done");
  EXPECT_EQ(read.session.last_step, 20);
  EXPECT_EQ(read.session.final_loss, 4.25);
  EXPECT_EQ(read.session.resumed_from_step, 10);
  EXPECT_EQ(read.session.start_time, record.session.start_time);
  EXPECT_TRUE(read.session.end_time.has_value());
  EXPECT_THAT(read.session.command, ElementsAre("titan_trainer", "--bundle", "b"));
  EXPECT_EQ(nlohmann::json::parse(read.experiment_json)["training"]["steps"], 20);
}

TEST(RunRecordTest, ANonFiniteLossIsNull) {
  const std::string path = TestPath("nan");
  RunRecord record = Record();
  record.session.final_loss = std::numeric_limits<double>::quiet_NaN();
  ASSERT_TRUE(WriteRunRecord(path, record).ok());
  EXPECT_THAT(ReadFile(path).value(), HasSubstr("\"final_loss\": null"));
  EXPECT_FALSE(ReadRunRecord(path).value().session.final_loss.has_value());
}

TEST(RunRecordTest, EarlierSessionsAreKept) {
  const std::string path = TestPath("sessions");
  for (int start = 0; start < 3; ++start) {
    RunRecord record = Record();
    record.session.last_step = 10 * start;
    ASSERT_TRUE(ContinueRunRecord(path, record).ok());
    ASSERT_TRUE(WriteRunRecord(path, record).ok());
  }
  const RunRecord read = ReadRunRecord(path).value();
  ASSERT_EQ(read.previous_sessions.size(), 2);
  EXPECT_EQ(read.previous_sessions[0].last_step, 0);
  EXPECT_EQ(read.previous_sessions[1].last_step, 10);
  EXPECT_EQ(read.session.last_step, 20);
}

TEST(RunRecordTest, TheLineageGrows) {
  const std::string path = TestPath("lineage");
  for (int64_t step = 0; step < 3; ++step) {
    RunRecord record = Record();
    ASSERT_TRUE(ContinueRunRecord(path, record).ok());
    if (step > 0) record.lineage.push_back({step, "digest of the writer", "/out/checkpoint/step-1"});
    ASSERT_TRUE(WriteRunRecord(path, record).ok());
  }
  const RunRecord read = ReadRunRecord(path).value();
  ASSERT_EQ(read.lineage.size(), 2);
  EXPECT_EQ(read.lineage[0].step, 1);
  EXPECT_EQ(read.lineage[1].step, 2);
  EXPECT_EQ(read.lineage[1].digest, "digest of the writer");
  // As earlier versions wrote it.
  nlohmann::json json = nlohmann::json::parse(ReadFile(path).value());
  json.erase("lineage");
  ASSERT_TRUE(WriteFileAtomically(path, json.dump()).ok());
  EXPECT_TRUE(ReadRunRecord(path).value().lineage.empty());
}

TEST(RunRecordTest, BytesThatAreNotUtf8) {
  const std::string path = TestPath("bytes");
  RunRecord record = Record();
  record.session.command = {"a\xff"};
  ASSERT_TRUE(WriteRunRecord(path, record).ok());
  EXPECT_EQ(ReadRunRecord(path).value().session.command[0], "a\xef\xbf\xbd");
}

TEST(RunRecordTest, Errors) {
  const std::string path = TestPath("errors");
  ASSERT_TRUE(WriteFileAtomically(path, "{\"name\": 3}").ok());
  EXPECT_EQ(ReadRunRecord(path).status().code(), absl::StatusCode::kDataLoss);
  RunRecord record = Record();
  EXPECT_EQ(ContinueRunRecord(path, record).code(), absl::StatusCode::kDataLoss);
  record.experiment_json = "{";
  EXPECT_EQ(WriteRunRecord(path, record).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace titan
