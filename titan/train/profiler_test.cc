#include "titan/train/profiler.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include <filesystem>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using testing::ElementsAre;

config::Profiling EveryFourth() {
  config::Profiling profiling;
  profiling.set_enable_profiling(true);
  profiling.set_profile_freq(4);
  profiling.set_profiler_warmup(1);
  profiling.set_profiler_active(2);
  return profiling;
}

// Steps first..last, each of which multiplies `step` times.
void Train(StepProfiler& profiler, int64_t first, int64_t last) {
  const at::Tensor ones = at::ones({2, 2});  // (2, 2)
  for (int64_t step = first; step <= last; ++step) {
    profiler.BeginStep(step);
    for (int64_t i = 0; i < step; ++i) at::mm(ones, ones);
    ASSERT_TRUE(profiler.EndStep(step).ok());
  }
}

int64_t ProductsIn(const std::string& path) {
  const nlohmann::json trace = nlohmann::json::parse(ReadFile(path).value());
  int64_t count = 0;
  for (const nlohmann::json& event : trace["traceEvents"]) count += event.value("name", "") == "aten::mm";
  return count;
}

std::set<std::string> FilesBelow(const std::string& directory) {
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) files.insert(std::filesystem::relative(entry.path(), directory));
  }
  return files;
}

TEST(StepProfiler, WritesTheLastStepsOfEveryCycle) {
  const std::string out = absl::StrCat(testing::TempDir(), "/cycles");
  const config::Profiling profiling = EveryFourth();
  StepProfiler profiler(profiling, out, /*rank=*/3, at::kCPU);
  Train(profiler, 1, 9);
  EXPECT_THAT(FilesBelow(out), ElementsAre("profiling/traces/iteration_4/rank3_trace.json",
                                           "profiling/traces/iteration_8/rank3_trace.json"));
  EXPECT_EQ(ProductsIn(out + "/profiling/traces/iteration_4/rank3_trace.json"), 3 + 4);
  EXPECT_EQ(ProductsIn(out + "/profiling/traces/iteration_8/rank3_trace.json"), 7 + 8);
}

TEST(StepProfiler, ARunThatContinuesWithinACycleBeginsWithTheNext) {
  const std::string out = absl::StrCat(testing::TempDir(), "/continued");
  const config::Profiling profiling = EveryFourth();
  StepProfiler profiler(profiling, out, /*rank=*/0, at::kCPU);
  Train(profiler, 3, 8);
  EXPECT_THAT(FilesBelow(out), ElementsAre("profiling/traces/iteration_8/rank0_trace.json"));
}

TEST(StepProfiler, IsOffByDefault) {
  const std::string out = absl::StrCat(testing::TempDir(), "/off");
  ASSERT_TRUE(MakeDirectories(out).ok());
  const config::Profiling profiling;
  StepProfiler profiler(profiling, out, /*rank=*/0, at::kCPU);
  Train(profiler, 1, 20);
  EXPECT_TRUE(FilesBelow(out).empty());
}

TEST(StepProfiler, SaysThatItCannotWrite) {
  const config::Profiling profiling = EveryFourth();
  StepProfiler profiler(profiling, "/proc/nowhere", /*rank=*/0, at::kCPU);
  Train(profiler, 1, 3);
  profiler.BeginStep(4);
  EXPECT_FALSE(profiler.EndStep(4).ok());
}

}  // namespace
}  // namespace titan
