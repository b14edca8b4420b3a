#include "titan/metrics/jsonl.h"

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string TestPath(const std::string& name) { return absl::StrCat(::testing::TempDir(), "/", name, ".jsonl"); }

StepMetrics Step(int64_t step) {
  return {.step = step,
          .loss = 1.0 / 3.0 * static_cast<double>(step),
          .grad_norm = 0.1,
          .lr = 8e-4,
          .tokens = 16384,
          .tokens_seen = 16384 * step,
          .step_seconds = 1.5,
          .data_seconds = 0.01,
          .tokens_per_second = 10922.666666666666,
          .tflops = 0.78,
          .mfu = 0.25,
          .memory_bytes = 123456789};
}

void LogSteps(const std::string& path, int64_t resume_step, int64_t last) {
  auto sink = OpenJsonl(path, resume_step).value();
  for (int64_t step = resume_step + 1; step <= last; ++step) ASSERT_TRUE(sink->Log(Step(step)).ok());
  ASSERT_TRUE(sink->Flush().ok());
}

std::vector<int64_t> StepsOf(const std::string& path) {
  std::vector<int64_t> steps;
  const std::vector<StepMetrics> read = ReadJsonl(path).value().steps;
  for (const StepMetrics& metrics : read) steps.push_back(metrics.step);
  return steps;
}

TEST(JsonlTest, SavesAreToldWhereTheyCostSomething) {
  const std::string path = TestPath("saves");
  auto sink = OpenJsonl(path, 0).value();
  StepMetrics held_up = Step(1);
  held_up.checkpoint_seconds = 0.125;
  held_up.write_seconds = 2.5;
  held_up.failed_saves = 3;
  ASSERT_TRUE(sink->Log(held_up).ok());
  ASSERT_TRUE(sink->Log(Step(2)).ok());
  const std::vector<StepMetrics> read = ReadJsonl(path).value().steps;
  EXPECT_EQ(read[0].checkpoint_seconds, 0.125);
  EXPECT_EQ(read[0].write_seconds, 2.5);
  EXPECT_EQ(read[0].failed_saves, 3);
  const std::string text = ReadFile(path).value();
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  EXPECT_THAT(lines[0], HasSubstr("\"checkpoint_seconds\": 0.125, \"write_seconds\": 2.5, \"failed_saves\": 3}"));
  EXPECT_EQ(lines[1].find("checkpoint_seconds"), std::string::npos);
  EXPECT_EQ(lines[1].find("write_seconds"), std::string::npos);
}

TEST(JsonlTest, OneObjectALine) {
  const std::string path = TestPath("one_object");
  LogSteps(path, 0, 2);
  const std::string text = ReadFile(path).value();
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  ASSERT_EQ(lines.size(), 3);
  EXPECT_EQ(lines[2], "");
  const nlohmann::json line = nlohmann::json::parse(lines[1]);
  EXPECT_EQ(line.size(), 12);
  EXPECT_EQ(line["step"], 2);
  EXPECT_EQ(line["loss"].get<double>(), 2.0 / 3.0);
  EXPECT_EQ(line["tokens_per_second"].get<double>(), 10922.666666666666);
  EXPECT_EQ(line["memory_bytes"], 123456789);
  EXPECT_EQ(lines[0].substr(0, 10), "{\"step\": 1");
}

TEST(JsonlTest, ReadsBackTheSameValues) {
  const std::string path = TestPath("same_values");
  LogSteps(path, 0, 3);
  const std::vector<StepMetrics> steps = ReadJsonl(path).value().steps;
  ASSERT_EQ(steps.size(), 3);
  EXPECT_EQ(steps[2].loss, Step(3).loss);
  EXPECT_EQ(steps[2].grad_norm, 0.1);
  EXPECT_EQ(steps[2].tokens_seen, 3 * 16384);
  EXPECT_EQ(steps[2].mfu, 0.25);
  EXPECT_EQ(steps[2].memory_bytes, 123456789);
}

ValidationMetrics ValidationAfter(int64_t step) {
  return {
      .step = step, .loss = 2.0 / 3.0, .tokens = 4096, .seconds = 0.25, .tokens_per_second = 16384, .memory_bytes = 77};
}

TEST(JsonlTest, AValidationHasALineOfItsOwn) {
  const std::string path = TestPath("validation");
  {
    auto sink = OpenJsonl(path, 0).value();
    for (int64_t step = 1; step <= 4; ++step) {
      ASSERT_TRUE(sink->Log(Step(step)).ok());
      if (step % 2 == 1) continue;
      ASSERT_TRUE(sink->LogValidation(ValidationAfter(step)).ok());
    }
  }
  const std::string text = ReadFile(path).value();
  EXPECT_THAT(text, HasSubstr("\n{\"step\": 2, \"validation_loss\": 0.6666666666666666, \"validation_tokens\": 4096, "
                              "\"validation_seconds\": 0.25, \"validation_tokens_per_second\": 16384.0, "
                              "\"memory_bytes\": 77}\n{\"step\": 3,"));
  const LoggedMetrics logged = ReadJsonl(path).value();
  EXPECT_EQ(logged.steps.size(), 4);
  ASSERT_EQ(logged.validations.size(), 2);
  EXPECT_EQ(logged.validations[1].step, 4);
  EXPECT_EQ(logged.validations[1].loss, 2.0 / 3.0);
  EXPECT_EQ(logged.validations[1].tokens, 4096);
}

// The validation after the step that a run continues from stays; what came later goes.
TEST(JsonlTest, AResumedRunKeepsItsValidations) {
  const std::string path = TestPath("resumed_validation");
  {
    auto sink = OpenJsonl(path, 0).value();
    for (int64_t step = 1; step <= 3; ++step) {
      ASSERT_TRUE(sink->Log(Step(step)).ok());
      ASSERT_TRUE(sink->LogValidation(ValidationAfter(step)).ok());
    }
  }
  ASSERT_TRUE(OpenJsonl(path, 2).ok());
  const LoggedMetrics logged = ReadJsonl(path).value();
  EXPECT_EQ(logged.steps.size(), 2);
  ASSERT_EQ(logged.validations.size(), 2);
  EXPECT_EQ(logged.validations.back().step, 2);
}

TEST(JsonlTest, ARunOfSeveralProcessesSaysWhatItSent) {
  const std::string path = TestPath("bytes_sent");
  auto sink = OpenJsonl(path, 0).value();
  StepMetrics step = Step(1);
  step.bytes_sent = {{"fsdp", 4096}, {"world", 24}};
  ASSERT_TRUE(sink->Log(step).ok());
  ASSERT_TRUE(sink->Flush().ok());
  EXPECT_EQ(nlohmann::json::parse(ReadFile(path).value())["bytes_sent"].dump(), R"({"fsdp":4096,"world":24})");
  EXPECT_EQ(ReadJsonl(path).value().steps[0].bytes_sent, step.bytes_sent);
}

TEST(JsonlTest, ALineCanBeReadBeforeFlush) {
  const std::string path = TestPath("before_flush");
  auto sink = OpenJsonl(path, 0).value();
  ASSERT_TRUE(sink->Log(Step(1)).ok());
  EXPECT_THAT(StepsOf(path), ElementsAre(1));
}

TEST(JsonlTest, NonFiniteIsNull) {
  const std::string path = TestPath("non_finite");
  auto sink = OpenJsonl(path, 0).value();
  StepMetrics metrics = Step(1);
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.grad_norm = std::numeric_limits<double>::infinity();
  ASSERT_TRUE(sink->Log(metrics).ok());
  EXPECT_THAT(ReadFile(path).value(), HasSubstr("\"loss\": null, \"grad_norm\": null"));
  EXPECT_TRUE(std::isnan(ReadJsonl(path).value().steps[0].loss));
}

TEST(JsonlTest, ANewRunStartsANewFile) {
  const std::string path = TestPath("new_run");
  LogSteps(path, 0, 5);
  LogSteps(path, 0, 2);
  EXPECT_THAT(StepsOf(path), ElementsAre(1, 2));
}

TEST(JsonlTest, ResumeCutsLaterStepsAway) {
  const std::string resumed = TestPath("resumed");
  LogSteps(resumed, 0, 5);
  LogSteps(resumed, 3, 7);
  const std::string straight = TestPath("straight");
  LogSteps(straight, 0, 7);
  EXPECT_EQ(ReadFile(resumed).value(), ReadFile(straight).value());
}

TEST(JsonlTest, ResumeCutsATornLineAway) {
  const std::string path = TestPath("torn");
  LogSteps(path, 0, 2);
  ASSERT_TRUE(WriteFileAtomically(path, ReadFile(path).value() + "{\"step\": 3, \"lo").ok());
  EXPECT_THAT(StepsOf(path), ElementsAre(1, 2));  // a reader meanwhile
  LogSteps(path, 2, 4);
  EXPECT_THAT(StepsOf(path), ElementsAre(1, 2, 3, 4));
}

TEST(JsonlTest, ResumeWithoutAFile) {
  const std::string path = TestPath("lost");
  LogSteps(path, 3, 5);
  EXPECT_THAT(StepsOf(path), ElementsAre(4, 5));
}

TEST(JsonlTest, AMalformedLineIsNamed) {
  const std::string path = TestPath("malformed");
  ASSERT_TRUE(WriteFileAtomically(path, "{\"step\": 1}\n{\"step\": 2, \"loss\": \"high\"}\n").ok());
  const absl::Status status = ReadJsonl(path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("line 2: loss is no number"));
  ASSERT_TRUE(WriteFileAtomically(path, "[]\n").ok());
  EXPECT_THAT(std::string(ReadJsonl(path).status().message()), HasSubstr("line 1: not a JSON object"));
  ASSERT_TRUE(WriteFileAtomically(path, "{\"loss\": 1}\n").ok());
  EXPECT_THAT(std::string(ReadJsonl(path).status().message()), HasSubstr("it has no step"));
}

TEST(JsonlTest, AFileThatCannotBeWritten) {
  EXPECT_FALSE(OpenJsonl(::testing::TempDir() + "/no/such/folder/metrics.jsonl", 0).ok());
}

}  // namespace
}  // namespace titan
