#include "titan/metrics/report.h"

#include <filesystem>
#include <limits>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/metrics/jsonl.h"

namespace titan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

RunRecord Record() {
  RunRecord record = StartRunRecord("llama3/debug", "0123456789abcdef", {"titan_trainer", "--bundle", "b"});
  record.facts = {{"device", "cpu, 2 threads"}};
  record.experiment_json = R"({"training": {"steps": 20}, "data": {"sources": [{"corpus": "django_docs"}]}})";
  return record;
}

std::vector<StepMetrics> Steps(int64_t count) {
  std::vector<StepMetrics> steps;
  for (int64_t step = 1; step <= count; ++step) {
    steps.push_back({.step = step,
                     .loss = 4 + 3.5 / static_cast<double>(step),
                     .grad_norm = 1,
                     .lr = 8e-4,
                     .tokens = 16384,
                     .tokens_seen = 16384 * step,
                     .step_seconds = 2,
                     .data_seconds = 0.1,
                     .tokens_per_second = 8192,
                     .tflops = 0.5,
                     .mfu = 0,
                     .memory_bytes = int64_t{1} << 30});
  }
  return steps;
}

TEST(ReportTest, TellsTheRun) {
  RunRecord record = Record();
  FinishRunRecord(record, 0, "done");
  const std::string html = RenderReport(record, Steps(20));
  EXPECT_THAT(html, AllOf(HasSubstr("llama3/debug"), HasSubstr("done (exit code 0)"), HasSubstr("4.1750"),
                          HasSubstr("from 7.5000"), HasSubstr("327,680"), HasSubstr("8,192"), HasSubstr("1.00 GiB")));
  EXPECT_THAT(html, AllOf(HasSubstr("0123456789abcdef"), HasSubstr("training.steps"),
                          HasSubstr("data.sources.0.corpus"), HasSubstr("django_docs"), HasSubstr("cpu, 2 threads")));
  EXPECT_THAT(html, Not(HasSubstr("MFU")));  // no peak is known
}

TEST(ReportTest, StandsAlone) {
  const std::string html = RenderReport(Record(), Steps(20));
  for (const char* loader : {"http:", "https:", "src=", "url(", "@import", "<link", "<script"}) {
    EXPECT_THAT(html, Not(HasSubstr(loader)));
  }
}

TEST(ReportTest, WithoutSteps) {
  const std::string html = RenderReport(Record(), {});
  EXPECT_THAT(html, AllOf(HasSubstr("nothing logged yet"), HasSubstr("no values yet"), HasSubstr("running")));
}

TEST(ReportTest, ShowsTheValidationLoss) {
  EXPECT_THAT(RenderReport(Record(), Steps(20)), Not(HasSubstr("alidation loss")));
  const std::vector<ValidationMetrics> validations = {{.step = 10, .loss = 5.25}, {.step = 20, .loss = 5.125}};
  EXPECT_THAT(RenderReport(Record(), Steps(20), validations),
              AllOf(HasSubstr("Validation loss"), HasSubstr("5.1250"), HasSubstr("after step 20")));
}

TEST(ReportTest, OneStep) { EXPECT_THAT(RenderReport(Record(), Steps(1)), HasSubstr("7.5000")); }

TEST(ReportTest, NonFiniteLoss) {
  std::vector<StepMetrics> steps = Steps(5);
  steps[4].loss = std::numeric_limits<double>::quiet_NaN();
  steps[4].grad_norm = std::numeric_limits<double>::infinity();
  steps[4].tokens_per_second = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(RenderReport(Record(), steps), HasSubstr("not finite at step 5"));
}

TEST(ReportTest, WhatTheRunNamesIsEscaped) {
  RunRecord record = Record();
  const std::string evil = "<script>x</script>";
  record.name = evil;
  record.session.digest = evil;
  record.session.host = evil;
  record.session.command = {evil};
  record.session.overrides = {evil};
  record.facts = {{evil, evil}};
  record.experiment_json = R"({"<script>": "<script>"})";
  record.previous_sessions = {record.session};
  FinishRunRecord(record, 4, evil);
  EXPECT_THAT(RenderReport(record, Steps(2)), Not(HasSubstr("<script")));
}

TEST(ReportTest, LongRunsStaySmall) { EXPECT_LT(RenderReport(Record(), Steps(200'000)).size(), 400'000); }

TEST(ReportTest, EarlierStartsAreListed) {
  RunRecord record = Record();
  EXPECT_THAT(RenderReport(record, Steps(2)), Not(HasSubstr("<h2>Starts")));
  record.previous_sessions = {record.session};
  record.session.resumed_from_step = 12'345;
  EXPECT_THAT(RenderReport(record, Steps(2)), AllOf(HasSubstr("<h2>Starts"), HasSubstr("12,345")));
}

TEST(ReportTest, IsMadeFromTheFilesOfARun) {
  const std::string directory = absl::StrCat(::testing::TempDir(), "/report_run");
  std::filesystem::remove_all(directory);
  ASSERT_TRUE(MakeDirectories(directory).ok());
  EXPECT_FALSE(WriteReport(directory).ok());  // no run.json
  ASSERT_TRUE(WriteRunRecord(directory + "/run.json", Record()).ok());
  ASSERT_TRUE(WriteReport(directory).ok());  // no metrics.jsonl yet
  EXPECT_THAT(ReadFile(directory + "/report.html").value(), HasSubstr("nothing logged yet"));

  auto log = OpenJsonl(directory + "/metrics.jsonl", 0).value();
  const std::unique_ptr<MetricsSink> report = OpenReport(directory);
  for (const StepMetrics& step : Steps(3)) {
    ASSERT_TRUE(log->Log(step).ok());
    ASSERT_TRUE(report->Log(step).ok());
  }
  ASSERT_TRUE(report->Flush().ok());
  EXPECT_THAT(ReadFile(directory + "/report.html").value(), HasSubstr("49,152"));
}

}  // namespace
}  // namespace titan
