#include "titan/checkpoint/writer.h"

#include <chrono>
#include <future>
#include <thread>

#include "gtest/gtest.h"

namespace titan {
namespace {

TEST(BackgroundWriter, TheCallerGoesOnWhileTheJobRuns) {
  BackgroundWriter writer;
  EXPECT_FALSE(writer.has_job());
  EXPECT_TRUE(writer.Wait().ok());
  std::promise<void> gate;
  writer.Start([&gate] {
    gate.get_future().wait();
    return absl::DataLossError("damaged");
  });
  EXPECT_TRUE(writer.has_job());
  EXPECT_FALSE(writer.IsDone());
  gate.set_value();
  while (!writer.IsDone()) std::this_thread::yield();
  EXPECT_TRUE(absl::IsDataLoss(writer.Wait()));
  EXPECT_FALSE(writer.has_job());
  writer.Start([] { return absl::OkStatus(); });
  EXPECT_TRUE(writer.Wait().ok());
}

TEST(BackgroundWriter, WaitsAsLongAsTheJobTakes) {
  using namespace std::chrono_literals;
  BackgroundWriter writer;
  const auto start = std::chrono::steady_clock::now();
  writer.Start([] {
    std::this_thread::sleep_for(200ms);
    return absl::OkStatus();
  });
  EXPECT_TRUE(writer.Wait().ok());
  EXPECT_GE(std::chrono::steady_clock::now() - start, 200ms);
}

TEST(BackgroundWriter, TheDestructorWaits) {
  bool ended = false;
  {
    BackgroundWriter writer;
    writer.Start([&ended] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      ended = true;
      return absl::OkStatus();
    });
  }
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace titan
