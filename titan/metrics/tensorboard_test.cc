// Decodes event files by hand (framing, bitwise CRC-32C, protobuf wire format), with nothing of what wrote them.

#include "titan/metrics/tensorboard.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

uint32_t Crc32c(std::string_view data) {
  uint32_t crc = ~0u;
  for (const char c : data) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0);
  }
  return ~crc;
}

uint32_t Masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

template <typename T>
T Take(std::string_view& bytes) {
  T value;
  EXPECT_GE(bytes.size(), sizeof(T));
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return value;
}

uint64_t TakeVarint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const uint8_t byte = Take<uint8_t>(bytes);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
}

std::string_view TakeBytes(std::string_view& bytes) {
  const size_t size = TakeVarint(bytes);
  const std::string_view taken = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return taken;
}

struct DecodedEvent {
  double wall_time = 0;
  int64_t step = 0;
  std::string file_version;
  std::map<std::string, float> scalars;
};

std::pair<std::string, float> DecodeValue(std::string_view bytes) {
  std::pair<std::string, float> value;
  while (!bytes.empty()) {
    const uint64_t key = TakeVarint(bytes);
    if (key == (1 << 3 | 2)) {
      value.first = TakeBytes(bytes);
    } else if (key == (2 << 3 | 5)) {
      value.second = Take<float>(bytes);
    } else {
      ADD_FAILURE() << "unknown key " << key;
      return value;
    }
  }
  return value;
}

DecodedEvent DecodeEvent(std::string_view bytes) {
  DecodedEvent event;
  while (!bytes.empty()) {
    const uint64_t key = TakeVarint(bytes);
    if (key == (1 << 3 | 1)) {
      event.wall_time = Take<double>(bytes);
    } else if (key == (2 << 3 | 0)) {
      event.step = static_cast<int64_t>(TakeVarint(bytes));
    } else if (key == (3 << 3 | 2)) {
      event.file_version = TakeBytes(bytes);
    } else if (key == (5 << 3 | 2)) {
      std::string_view summary = TakeBytes(bytes);
      while (!summary.empty()) {
        EXPECT_EQ(TakeVarint(summary), 1 << 3 | 2);
        event.scalars.insert(DecodeValue(TakeBytes(summary)));
      }
    } else {
      ADD_FAILURE() << "unknown key " << key;
      return event;
    }
  }
  return event;
}

std::vector<DecodedEvent> DecodeFile(const std::string& path) {
  const std::string file = ReadFile(path).value();
  std::string_view bytes = file;
  std::vector<DecodedEvent> events;
  while (!bytes.empty()) {
    const std::string_view length_bytes = bytes.substr(0, 8);
    const uint64_t length = Take<uint64_t>(bytes);
    EXPECT_EQ(Take<uint32_t>(bytes), Masked(Crc32c(length_bytes)));
    const std::string_view data = bytes.substr(0, length);
    bytes.remove_prefix(length);
    EXPECT_EQ(Take<uint32_t>(bytes), Masked(Crc32c(data)));
    events.push_back(DecodeEvent(data));
  }
  return events;
}

std::vector<std::string> Files(const std::string& directory) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

// Steps of all points in the order in which TensorBoard reads them.
std::vector<int64_t> StepsIn(const std::string& directory) {
  std::vector<int64_t> steps;
  for (const std::string& path : Files(directory)) {
    for (const DecodedEvent& event : DecodeFile(path)) {
      if (!event.scalars.empty()) steps.push_back(event.step);
    }
  }
  return steps;
}

std::string FreshDirectory(const std::string& name) {
  const std::string directory = absl::StrCat(::testing::TempDir(), "/tb_", name);
  std::filesystem::remove_all(directory);
  return directory;
}

StepMetrics Step(int64_t step) {
  return {.step = step,
          .loss = 7.5,
          .grad_norm = 1.25,
          .lr = 8e-4,
          .tokens = 100,
          .tokens_seen = 100 * step,
          .step_seconds = 2,
          .data_seconds = 0.5,
          .tokens_per_second = 50,
          .tflops = 0.5,
          .mfu = 0.375,
          .memory_bytes = int64_t{3} << 29};
}

void LogSteps(const std::string& directory, TensorBoardOptions options, int64_t last) {
  auto sink = OpenTensorBoard(directory, options).value();
  for (int64_t step = options.resume_step + 1; step <= last; ++step) ASSERT_TRUE(sink->Log(Step(step)).ok());
  ASSERT_TRUE(sink->Flush().ok());
}

TEST(TensorBoardTest, WritesTorchtitansTags) {
  const std::string directory = FreshDirectory("tags");
  LogSteps(directory, {.log_freq = 1, .memory_capacity_bytes = int64_t{3} << 30, .optimizer = "AdamW"}, 1);
  ASSERT_EQ(Files(directory).size(), 1);
  EXPECT_THAT(Files(directory)[0], testing::HasSubstr("/events.out.tfevents."));
  const std::vector<DecodedEvent> events = DecodeFile(Files(directory)[0]);
  ASSERT_EQ(events.size(), 2);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_GT(events[1].wall_time, 1.7e9);
  EXPECT_EQ(events[1].step, 1);
  EXPECT_THAT(events[1].scalars,
              ElementsAre(Pair("grad_norm", 1.25f), Pair("loss_metrics/global_avg_loss", 7.5f), Pair("lr/AdamW", 8e-4f),
                          Pair("memory/max_reserved(%)", 50.0f), Pair("memory/max_reserved(GiB)", 1.5f),
                          Pair("mfu(%)", 37.5f), Pair("n_tokens_seen", 100.0f), Pair("tflops", 0.5f),
                          Pair("throughput(tps)", 50.0f), Pair("time_metrics/data_loading(%)", 25.0f),
                          Pair("time_metrics/data_loading(s)", 0.5f), Pair("time_metrics/end_to_end(s)", 2.0f)));
}

TEST(TensorBoardTest, EveryValidationIsAPoint) {
  const std::string directory = FreshDirectory("validation");
  auto sink = OpenTensorBoard(directory, {.log_freq = 10, .memory_capacity_bytes = int64_t{3} << 30}).value();
  ASSERT_TRUE(sink->LogValidation({.step = 7,
                                   .loss = 6.5,
                                   .tokens = 4096,
                                   .seconds = 2,
                                   .tokens_per_second = 2048,
                                   .memory_bytes = int64_t{3} << 29})
                  .ok());
  const std::vector<DecodedEvent> events = DecodeFile(Files(directory)[0]);
  ASSERT_EQ(events.size(), 2);
  EXPECT_EQ(events[1].step, 7);
  EXPECT_THAT(events[1].scalars, ElementsAre(Pair("validation_metrics/loss", 6.5f),
                                             Pair("validation_metrics/memory/max_reserved(%)", 50.0f),
                                             Pair("validation_metrics/memory/max_reserved(GiB)", 1.5f),
                                             Pair("validation_metrics/throughput(tps)", 2048.0f)));
}

TEST(TensorBoardTest, LogsEveryNthStepAndTheLast) {
  const std::string directory = FreshDirectory("freq");
  LogSteps(directory, {.log_freq = 4, .total_steps = 10}, 10);
  EXPECT_THAT(StepsIn(directory), ElementsAre(1, 4, 8, 10));
}

TEST(TensorBoardTest, ResumeRepeatsNoStep) {
  const std::string directory = FreshDirectory("resume");
  LogSteps(directory, {.log_freq = 1}, 5);
  LogSteps(directory, {.log_freq = 1, .resume_step = 3}, 7);
  EXPECT_EQ(Files(directory).size(), 2);
  EXPECT_THAT(StepsIn(directory), ElementsAre(1, 2, 3, 4, 5, 6, 7));
  LogSteps(directory, {.log_freq = 1, .resume_step = 2}, 4);  // over two older files
  EXPECT_THAT(StepsIn(directory), ElementsAre(1, 2, 3, 4));
}

TEST(TensorBoardTest, ResumeCutsATornRecord) {
  const std::string directory = FreshDirectory("torn");
  LogSteps(directory, {.log_freq = 1}, 3);
  const std::string path = Files(directory)[0];
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 5);
  LogSteps(directory, {.log_freq = 1, .resume_step = 3}, 5);
  EXPECT_THAT(StepsIn(directory), ElementsAre(1, 2, 4, 5));
}

TEST(TensorBoardTest, ADamagedFileKeepsWhatComesBefore) {
  const std::string directory = FreshDirectory("damaged");
  LogSteps(directory, {.log_freq = 1}, 3);
  const std::string path = Files(directory)[0];
  std::string bytes = ReadFile(path).value();
  bytes[bytes.size() - 20] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
  LogSteps(directory, {.log_freq = 1, .resume_step = 3}, 4);
  EXPECT_THAT(StepsIn(directory), ElementsAre(1, 2, 4));
}

TEST(TensorBoardTest, NonFiniteIsKept) {
  const std::string directory = FreshDirectory("nan");
  auto sink = OpenTensorBoard(directory, {.log_freq = 1}).value();
  StepMetrics metrics = Step(1);
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  ASSERT_TRUE(sink->Log(metrics).ok());
  EXPECT_TRUE(std::isnan(DecodeFile(Files(directory)[0])[1].scalars["loss_metrics/global_avg_loss"]));
}

TEST(TensorBoardTest, OtherFilesAreLeftAlone) {
  const std::string directory = FreshDirectory("others");
  ASSERT_TRUE(MakeDirectories(directory).ok());
  ASSERT_TRUE(WriteFileAtomically(directory + "/notes.txt", "keep").ok());
  LogSteps(directory, {.log_freq = 1}, 1);
  EXPECT_EQ(ReadFile(directory + "/notes.txt").value(), "keep");
}

}  // namespace
}  // namespace titan
