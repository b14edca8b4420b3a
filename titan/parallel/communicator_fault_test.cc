// Ranks that die, sleep, disagree or never come: everyone else ends soon, and says why.

#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "titan/parallel/communicator.h"
#include "titan/parallel/multi_process_test.h"

namespace titan {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Connects with short time limits and makes the group of everyone.
struct World {
  World(TransportOptions options, std::chrono::seconds timeout) {
    options.timeout = timeout;
    options.init_timeout = std::chrono::seconds(60);
    auto connected = ConnectTransport(options);
    if (!connected.ok()) throw CommunicationError(std::string(connected.status().message()));
    transport = *std::move(connected);
    std::vector<int64_t> ranks(options.world_size);
    std::iota(ranks.begin(), ranks.end(), 0);
    group = *transport->NewGroup("world", ranks);
  }
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Communicator> group;
};

constexpr std::chrono::seconds kLong{300};  // longer than a test may take
constexpr std::chrono::seconds kShort{2};

// All ranks work until one is killed. `world` is made before the fork returns to the parent.
void WorkUntilKilled(const TransportOptions& options) {
  World world(options, kLong);
  // Large enough that somebody is hit in the middle of a message.
  const at::Tensor tensor = at::zeros({1'000'000}, at::kFloat);
  while (true) world.group->AllReduce(tensor).Wait();
}

class Killed : public testing::TestWithParam<int64_t> {};

TEST_P(Killed, EveryoneElseNamesIt) {
  RankProcesses processes(4, WorkUntilKilled);
  std::this_thread::sleep_for(std::chrono::seconds(1));  // wherever that finds them
  ASSERT_EQ(kill(processes.pid(GetParam()), SIGKILL), 0);
  for (int64_t rank = 0; rank < 4; ++rank) {
    if (rank == GetParam()) continue;
    EXPECT_EQ(processes.Wait(rank), 5);
    EXPECT_THAT(processes.Error(rank),
                HasSubstr("rank " + std::to_string(GetParam()) +
                          (GetParam() == 0 ? ": it died, or left early: its connection closed" : ": it died")));
  }
  EXPECT_EQ(processes.Wait(GetParam()), -SIGKILL);
}

INSTANTIATE_TEST_SUITE_P(Ranks, Killed, testing::Values<int64_t>(0, 2));

TEST(Timeout, NamesTheRankThatDoesNotCome) {
  RankProcesses processes(3, [](const TransportOptions& options) {
    World world(options, kShort);
    world.group->Barrier();
    world.group->Barrier();
    // Rank 1 does something else for long; but it is alive, and hears of the failure.
    if (options.rank == 1) std::this_thread::sleep_for(3 * kShort);
    world.group->AllReduce(at::zeros({10}, at::kFloat)).Wait();
  });
  for (int64_t rank = 0; rank < 3; ++rank) EXPECT_EQ(processes.Wait(rank), 5);
  for (const int64_t rank : {0, 2}) {
    EXPECT_THAT(processes.Error(rank),
                AllOf(HasSubstr("all_reduce #3 of group world (ranks 0, 1, 2) on rank "),
                      HasSubstr("did not finish within 2 s"), HasSubstr("Did not arrive: rank 1 (got to barrier #2)")));
  }
  EXPECT_THAT(processes.Error(1), HasSubstr("did not finish within 2 s"));
}

TEST(Timeout, ABarrierMayHaveItsOwn) {
  RankProcesses processes(2, [](const TransportOptions& options) {
    World world(options, kShort);
    if (options.rank == 1) std::this_thread::sleep_for(2 * kShort);
    world.group->Barrier(kLong);
    if (options.rank == 1) std::this_thread::sleep_for(3 * kShort);
    world.group->Barrier(2 * kShort);
  });
  for (int64_t rank = 0; rank < 2; ++rank) EXPECT_EQ(processes.Wait(rank), 5);
  EXPECT_THAT(processes.Error(0), AllOf(HasSubstr("barrier #2"), HasSubstr("did not finish within 4 s"),
                                        HasSubstr("Did not arrive: rank 1 (got to barrier #1)")));
}

class Stopped : public testing::TestWithParam<int64_t> {};

TEST_P(Stopped, IsNamed) {
  RankProcesses processes(3, [](const TransportOptions& options) {
    World world(options, kShort);
    world.group->Barrier();
    if (options.rank == GetParam()) raise(SIGSTOP);
    const at::Tensor all = at::zeros({3, 100'000}, at::kFloat);
    world.group->AllGather(all, all[options.rank]).Wait();
  });
  for (int64_t rank = 0; rank < 3; ++rank) {
    if (rank == GetParam()) continue;
    EXPECT_EQ(processes.Wait(rank), 5);
    EXPECT_THAT(processes.Error(rank),
                AllOf(HasSubstr("all_gather #2 of group world"),
                      HasSubstr("Did not arrive: rank " + std::to_string(GetParam()) + " (does not answer")));
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, Stopped, testing::Values<int64_t>(0, 1));

TEST(Abort, PassesTheReasonOn) {
  RankProcesses processes(3, [](const TransportOptions& options) {
    World world(options, kLong);
    world.group->Barrier();  // an abort before everyone is here is another error
    if (options.rank == 2) {
      world.transport->Abort("the loss is not finite at step 7");
      EXPECT_THROW(world.group->Barrier(), CommunicationError);
      return;
    }
    at::Tensor tensor = at::zeros({10}, at::kFloat);
    EXPECT_THROW(world.group->Exchange({}, {{tensor, 2}}).Wait(), CommunicationError);
    world.group->AllReduce(tensor).Wait();  // every later operation fails, too
  });
  EXPECT_EQ(processes.Wait(2), 0);
  for (const int64_t rank : {0, 1}) {
    EXPECT_EQ(processes.Wait(rank), 5);
    EXPECT_THAT(processes.Error(rank), HasSubstr("rank 2: the loss is not finite at step 7"));
  }
}

TEST(Leaving, IsNoFailureAndWaitsForTheOthers) {
  RankProcesses processes(3, [](const TransportOptions& options) {
    World world(options, kLong);
    const at::Tensor all = at::zeros({3, 500'000}, at::kFloat);
    world.group->AllGather(all, all[options.rank]).Wait();
    // The first is through early; the others still talk.
    if (options.rank == 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    at::Tensor tensor = at::zeros({10}, at::kFloat);
    world.group->Exchange({{tensor, 3 - options.rank}}, {{at::zeros({10}, at::kFloat), 3 - options.rank}}).Wait();
  });
  for (int64_t rank = 0; rank < 3; ++rank) EXPECT_EQ(processes.Wait(rank), 0) << processes.Error(rank);
}

TEST(Rendezvous, NamesWhoDidNotCome) {
  RankProcesses processes(4, [](TransportOptions options) {
    if (options.rank == 1 || options.rank == 3) return;
    options.init_timeout = std::chrono::seconds(options.rank == 0 ? 1 : 30);
    auto transport = ConnectTransport(options);
    ASSERT_FALSE(transport.ok());
    throw CommunicationError(std::string(transport.status().message()));
  });
  EXPECT_EQ(processes.Wait(0), 5);
  EXPECT_THAT(processes.Error(0), HasSubstr("these ranks did not come within 1 s: 1, 3"));
  EXPECT_EQ(processes.Wait(2), 5);
  EXPECT_THAT(processes.Error(2), AllOf(HasSubstr("rank 2 of 4 at localhost:"), HasSubstr("rank 0: "),
                                        HasSubstr("these ranks did not come within 1 s: 1, 3")));
}

TEST(Rendezvous, SaysWhoDoesNotAnswer) {
  RankProcesses processes(2, [](TransportOptions options) {
    if (options.rank == 0) return;  // its socket closes with it
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    options.init_timeout = std::chrono::seconds(1);
    throw CommunicationError(std::string(ConnectTransport(options).status().message()));
  });
  EXPECT_EQ(processes.Wait(1), 5);
  EXPECT_THAT(processes.Error(1), AllOf(HasSubstr("rank 1 of 2: rank 0 did not answer at localhost:"),
                                        HasSubstr("within 1 s"), HasSubstr("Connection refused")));
}

TEST(Rendezvous, TurnsStrangersAway) {
  RankProcesses processes(3, [](TransportOptions options) {
    // The third process takes the second one's rank, or another world.
    if (options.rank == 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      options.rank = 1;
      options.world_size = 2;
      const absl::Status twice = ConnectTransport(options).status();
      options.world_size = 8;
      throw CommunicationError(std::string(twice.message()) + "\n" +
                               std::string(ConnectTransport(options).status().message()));
    }
    options.world_size = 2;
    World world(options, kLong);
    world.group->Barrier();
    std::this_thread::sleep_for(std::chrono::milliseconds(1000));
    world.group->Barrier();
  });
  EXPECT_EQ(processes.Wait(0), 0) << processes.Error(0);
  EXPECT_EQ(processes.Wait(1), 0) << processes.Error(1);
  EXPECT_EQ(processes.Wait(2), 5);
  EXPECT_THAT(processes.Error(2),
              AllOf(HasSubstr("rank 1 has come already"), HasSubstr("for a world of 2 processes, rank 1 for 8")));
}

TEST(Rendezvous, SaysThatThePortIsTaken) {
  RankProcesses processes(2, [](TransportOptions options) {
    if (options.rank != 0) return;
    options.listen_socket = -1;  // that socket still listens
    throw CommunicationError(std::string(ConnectTransport(options).status().message()));
  });
  EXPECT_EQ(processes.Wait(0), 5);
  EXPECT_THAT(processes.Error(0), AllOf(HasSubstr("rank 0 cannot listen on port "), HasSubstr("choose another port")));
}

}  // namespace
}  // namespace titan
