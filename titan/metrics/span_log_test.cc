#include "titan/metrics/span_log.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "titan/base/file.h"

namespace titan {
namespace {

using nlohmann::json;

std::string NewPath(const std::string& name) {
  const std::string path = testing::TempDir() + "/" + name;
  std::filesystem::remove(path);
  return path;
}

// Of a file as it is while it grows: the array has no end, and its last element a comma.
std::vector<json> Events(const std::string& path, const std::string& phase) {
  std::string text = ReadFile(path).value();
  EXPECT_EQ(text.substr(text.size() - 2), ",\n");
  text.resize(text.size() - 2);
  std::vector<json> events;
  for (const json& event : json::parse(text + "]")) {
    if (event.at("ph") == phase) events.push_back(event);
  }
  return events;
}

std::unique_ptr<SpanLog> OpenLog(const std::string& path, int64_t rank = 3) {
  auto log = SpanLog::Open(path, rank);
  EXPECT_TRUE(log.ok()) << log.status();
  return *std::move(log);
}

int64_t NowMicroseconds() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

TEST(SpanLog, HoldsWhatWasFlushed) {
  const std::string path = NewPath("flushed.json");
  const auto log = OpenLog(path);
  const int64_t before = NowMicroseconds();
  {
    const Span step("step", 7);
    const Span forward("forward");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_TRUE(log->Flush().ok());
  const std::vector<json> events = Events(path, "X");
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0]["name"], "forward");
  EXPECT_FALSE(events[0].contains("args"));
  EXPECT_EQ(events[1]["name"], "step");
  EXPECT_EQ(events[1]["args"]["number"], 7);
  for (const json& event : events) {
    EXPECT_EQ(event["pid"], 3);
    EXPECT_EQ(event["tid"], events[0]["tid"]);
    EXPECT_GE(event["dur"], 5000);
    EXPECT_NEAR(event["ts"].get<double>(), before, 1e6) << "microseconds of the wall clock";
  }
  EXPECT_LE(events[1]["ts"], events[0]["ts"]) << "a span begins before those within it";
  EXPECT_EQ(Events(path, "M")[0]["args"]["name"], "rank 3");
}

TEST(SpanLog, KeepsThreadsApart) {
  const std::string path = NewPath("threads.json");
  const auto log = OpenLog(path);
  std::vector<std::thread> threads;
  for (const char* name : {"a", "b", "c", "d"}) {
    threads.emplace_back([name] {
      NameThread(name);
      for (int64_t n = 0; n < 1000; ++n) const Span span("batch", n);
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(log->Flush().ok());
  const std::vector<json> events = Events(path, "X"), names = Events(path, "M");
  EXPECT_EQ(events.size(), 4000u);
  ASSERT_EQ(names.size(), 5u) << "the process and four threads";
  for (size_t i = 1; i < names.size(); ++i) {
    const auto of_thread =
        std::count_if(events.begin(), events.end(), [&](const json& event) { return event["tid"] == names[i]["tid"]; });
    EXPECT_EQ(of_thread, 1000);
  }
}

// Such as the thread of a loader that was set back.
TEST(SpanLog, AThreadThatComesBackHasItsRow) {
  const std::string path = NewPath("row.json");
  const auto log = OpenLog(path);
  for (int i = 0; i < 3; ++i) {
    std::thread([] {
      NameThread("loader");
      const Span span("batch");
    }).join();
  }
  ASSERT_TRUE(log->Flush().ok());
  EXPECT_EQ(Events(path, "X").size(), 3u);
  EXPECT_EQ(Events(path, "M").size(), 2u);
}

TEST(SpanLog, GoesOnInTheFileOfAKilledRun) {
  const std::string path = NewPath("killed.json");
  {
    const auto log = OpenLog(path);
    const Span span("first");
  }
  const std::string whole = ReadFile(path).value();
  ASSERT_TRUE(WriteFileAtomically(path, whole + R"({"name": "torn", "ph")").ok());
  {
    const auto log = OpenLog(path);
    Span("second").End();
  }
  const std::vector<json> events = Events(path, "X");
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0]["name"], "first");
  EXPECT_EQ(events[1]["name"], "second");
  EXPECT_EQ(ReadFile(path).value().find("torn"), std::string::npos);
}

TEST(SpanLog, ListensWhileItIsOpen) {
  const std::string path = NewPath("closed.json");
  OpenLog(path);
  Span("nobody listens").End();
  EXPECT_TRUE(Events(path, "X").empty());
}

TEST(SpanLog, SaysWhereItCannotWrite) {
  const absl::Status status = SpanLog::Open(testing::TempDir() + "/no/such/folder/rank-0.json", 0).status();
  EXPECT_NE(status.message().find("no/such/folder"), std::string::npos) << status;
}

}  // namespace
}  // namespace titan
