#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "titan/parallel/store_client.h"
#include "titan/parallel/store_frame.h"
#include "titan/parallel/transport_progress.h"

namespace titan {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

// A world of two; both ranks live in this process.
class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    StoreOptions options;
    options.world_size = 2;
    options.listen_socket = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    ASSERT_EQ(bind(options.listen_socket, reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(listen(options.listen_socket, 8), 0);
    ASSERT_EQ(getsockname(options.listen_socket, reinterpret_cast<sockaddr*>(&address), &size), 0);
    options.port = ntohs(address.sin_port);
    OnBoth([&](int64_t rank) {
      StoreOptions own = options;
      own.rank = rank;
      if (rank != 0) own.listen_socket = -1;
      auto connected = StoreClient::Connect(own);
      ASSERT_TRUE(connected.ok()) << connected.status();
      ranks_[rank] = *std::move(connected);
    });
  }
  // Each waits for the other's goodbye.
  void TearDown() override {
    OnBoth([&](int64_t rank) { ranks_[rank] = nullptr; });
  }

  static void OnBoth(const std::function<void(int64_t)>& function) {
    std::thread other([&] { function(1); });
    function(0);
    other.join();
  }

  std::unique_ptr<StoreClient> ranks_[2];
};

TEST_F(StoreTest, GetWaitsForSetAndNotForEver) {
  EXPECT_EQ(ranks_[0]->address(), "127.0.0.1");
  ranks_[0]->Set("a", std::string("\0one\n", 5));
  EXPECT_EQ(*ranks_[1]->Get("a", milliseconds(5000)), std::string("\0one\n", 5));
  OnBoth([&](int64_t rank) {
    if (rank == 0) {
      EXPECT_EQ(*ranks_[0]->Get("b", milliseconds(5000)), std::string(100'000, 'x'));
    } else {
      std::this_thread::sleep_for(milliseconds(50));
      ranks_[1]->Set("b", std::string(100'000, 'x'));
    }
  });
  ranks_[0]->Delete("b");
  const absl::Status gone = ranks_[0]->Get("b", milliseconds(50)).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(gone)) << gone;
  EXPECT_THAT(gone.message(), HasSubstr("waiting 0.05 s for \"b\" of the store"));
}

TEST_F(StoreTest, GroupsHaveNumbersOfTheirOwn) {
  const int64_t first = *ranks_[0]->GroupNumber("a", "0, 1"), second = *ranks_[0]->GroupNumber("b", "0, 1");
  EXPECT_NE(first, second);
  EXPECT_EQ(*ranks_[1]->GroupNumber("b", "0, 1"), second);
  EXPECT_EQ(ranks_[1]->GroupNumber("a", "1").status().message(), "group a has ranks 1 on rank 1 but 0, 1 elsewhere");
}

TEST_F(StoreTest, AsksEveryoneAndNamesWhoIsBehind) {
  constexpr milliseconds limit(1500);
  ProgressTable progress[2];
  for (int64_t rank = 0; rank < 2; ++rank) {
    ranks_[rank]->OnReport([&, rank](const std::string& group) { return progress[rank].Report(group); });
  }
  progress[0].Begin("tp", "exchange", false, limit);
  progress[0].Begin("tp", "all_gather", true, limit);
  progress[1].Begin("tp", "all_gather", true, limit);
  EXPECT_THAT(ranks_[0]->AskAll("tp"), ElementsAre(Pair(0, "1 2 all_gather"), Pair(1, "1 1 all_gather")));
  const auto describe = [&](const Operation& operation) {
    return DescribeTimeout(*ranks_[0], operation, "tp", {0, 1}, 0, {1});
  };
  EXPECT_EQ(
      describe(progress[0].Begin("tp", "all_reduce", true, limit)),
      "all_reduce #3 of group tp (ranks 0, 1) on rank 0 did not finish within 1.5 s. Did not arrive: rank 1 (got to "
      "all_gather #1)");
  progress[1].Begin("tp", "all_reduce", true, limit);
  EXPECT_EQ(
      describe({"all_reduce", 3, 2, limit}),
      "all_reduce #3 of group tp (ranks 0, 1) on rank 0 did not finish within 1.5 s. Messages are outstanding of: "
      "ranks 1. All ranks had arrived.");
  EXPECT_THAT(describe(progress[0].Begin("tp", "exchange", false, limit)),
              HasSubstr("Did not arrive: rank 1 (got to all_reduce #2)"));
}

TEST_F(StoreTest, TheFirstFailureIsKept) {
  int calls = 0;
  ranks_[1]->OnFailure([&] { ++calls; });
  ranks_[0]->Fail("it ran out of memory");
  EXPECT_EQ(ranks_[1]->AwaitFailure(milliseconds(5000)), "rank 0: it ran out of memory");
  ranks_[1]->Fail("another one");
  EXPECT_EQ(ranks_[0]->failure(), "rank 0: it ran out of memory");
  EXPECT_TRUE(absl::IsUnavailable(ranks_[1]->Get("a", milliseconds(5000)).status()));
  int late_calls = 0;
  ranks_[1]->OnFailure([&] { ++late_calls; });
  EXPECT_EQ(late_calls, 1);
  TearDown();  // the callback is through
  EXPECT_EQ(calls, 1);
}

TEST(StoreFrame, ReadsWhatItWrites) {
  std::string bytes =
      Encode({FrameType::kSet, 7, "key", std::string(1000, 'v')}) + Encode({FrameType::kBye, 0, "", ""});
  std::string part = bytes.substr(0, 20);
  EXPECT_FALSE(TakeFrame(part)->has_value());
  const Frame first = **TakeFrame(bytes);
  EXPECT_EQ(first.id, 7);
  EXPECT_EQ(first.key, "key");
  EXPECT_EQ(first.value.size(), 1000);
  EXPECT_EQ((**TakeFrame(bytes)).type, FrameType::kBye);
  EXPECT_EQ(bytes, "");
  std::string stranger = "GET / HTTP/1.1\r\n\r\n";
  EXPECT_FALSE(TakeFrame(stranger).ok());
}

}  // namespace
}  // namespace titan
