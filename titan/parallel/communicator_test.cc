#include "titan/parallel/communicator.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "titan/parallel/multi_process_test.h"

namespace titan {
namespace {

std::vector<int64_t> Everyone(const Transport& transport) {
  std::vector<int64_t> ranks(transport.world_size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

std::unique_ptr<Communicator> World(Transport& transport, const std::string& name = "world") {
  absl::StatusOr<std::unique_ptr<Communicator>> group = transport.NewGroup(name, Everyone(transport));
  EXPECT_TRUE(group.ok()) << group.status();
  return *std::move(group);
}

// What `rank` contributes: numbers whose sums are exact in every dtype.
at::Tensor Values(int64_t count, int64_t rank, at::ScalarType dtype) {
  return at::arange(count, at::kLong).remainder(13).mul(rank + 1).add(rank).to(dtype);
}

class Collectives : public testing::TestWithParam<int64_t> {};  // the number of ranks

const at::ScalarType kDtypes[] = {at::kFloat, at::kBFloat16, at::kDouble, at::kLong, at::kByte};
// Empty, fewer than ranks, not divisible, on both sides of each change of algorithm, several pieces.
const int64_t kCounts[] = {0, 1, 3, 1000, 9001, 150'001};

void TestGathers(Communicator& group, int64_t count, at::ScalarType dtype) {
  const int64_t n = group.size(), me = group.rank();
  at::Tensor output = at::zeros({n, count}, dtype);
  group.AllGather(output, Values(count, me, dtype)).Wait();
  at::Tensor in_place = at::zeros({n, count}, dtype);
  in_place[me].copy_(Values(count, me, dtype));
  group.AllGather(in_place, in_place[me]).Wait();
  for (int64_t r = 0; r < n; ++r) {
    EXPECT_TRUE(at::equal(output[r], Values(count, r, dtype))) << count << " " << dtype;
    EXPECT_TRUE(at::equal(in_place[r], Values(count, r, dtype))) << count << " " << dtype;
  }
  at::Tensor tensor = Values(count, me, dtype);
  group.Broadcast(tensor, n - 1).Wait();
  EXPECT_TRUE(at::equal(tensor, Values(count, n - 1, dtype))) << count << " " << dtype;
}

void TestReductions(Communicator& group, int64_t count, at::ScalarType dtype) {
  const int64_t n = group.size(), me = group.rank();
  at::Tensor sum = at::zeros({n * count}, at::kDouble);
  for (int64_t r = 0; r < n; ++r) sum += Values(n * count, r, at::kDouble);
  const at::Tensor max = Values(n * count, n - 1, dtype);

  at::Tensor tensor = Values(n * count, me, dtype);
  group.AllReduce(tensor).Wait();
  EXPECT_TRUE(at::equal(tensor, sum.to(dtype))) << count << " " << dtype;
  tensor = Values(n * count, me, dtype);
  group.AllReduce(tensor, ReduceOp::kMax).Wait();
  EXPECT_TRUE(at::equal(tensor, max)) << count << " " << dtype;

  const at::Tensor input = Values(n * count, me, dtype);
  at::Tensor output = at::zeros({count}, dtype);
  group.ReduceScatter(output, input).Wait();
  EXPECT_TRUE(at::equal(output, sum.to(dtype).view({n, count})[me])) << count << " " << dtype;
  at::Tensor part = input.view({n, count})[me];
  group.ReduceScatter(part, input, ReduceOp::kMax).Wait();
  EXPECT_TRUE(at::equal(part, max.view({n, count})[me])) << count << " " << dtype;
}

void TestUnevenAllToAll(Communicator& group, at::ScalarType dtype) {
  const int64_t n = group.size(), me = group.rank();
  // a sends a * n + b rows to b, so that somebody sends none.
  std::vector<int64_t> send_rows, receive_rows;
  for (int64_t r = 0; r < n; ++r) {
    send_rows.push_back(me * n + r);
    receive_rows.push_back(r * n + me);
  }
  const auto values = [&](int64_t rank) {
    return Values((n * rank * n + n * (n - 1) / 2) * 5, rank, dtype).view({-1, 5});
  };
  const int64_t rows = std::accumulate(receive_rows.begin(), receive_rows.end(), int64_t{0});
  at::Tensor output = at::zeros({rows, 5}, dtype);
  group.AllToAll(output, receive_rows, values(me), send_rows).Wait();
  int64_t begin = 0;
  for (int64_t r = 0; r < n; ++r) {
    const int64_t first = n * r * me + me * (me - 1) / 2;  // rows of r to ranks below this one
    EXPECT_TRUE(at::equal(output.narrow(0, begin, receive_rows[r]), values(r).narrow(0, first, receive_rows[r])));
    begin += receive_rows[r];
  }
}

TEST_P(Collectives, CarryEveryDtypeAndSize) {
  const std::string failures = RunRanks(GetParam(), [](Transport& transport) {
    auto group = World(transport);
    for (const at::ScalarType dtype : kDtypes) {
      for (const int64_t count : kCounts) {
        TestGathers(*group, count, dtype);
        if (dtype != at::kByte) TestReductions(*group, count, dtype);
      }
      TestUnevenAllToAll(*group, dtype);
    }
    group->Barrier();
  });
  EXPECT_EQ(failures, "");
}

INSTANTIATE_TEST_SUITE_P(Sizes, Collectives, testing::Values<int64_t>(2, 3, 4));

// Numbers whose sum depends on the order of summation.
at::Tensor Rough(int64_t count, int64_t rank) { return at::arange(count, at::kFloat).add(rank * 17).sin(); }

TEST(Communicator, AddsInTheOrderOfTheRanksInFloat32) {
  EXPECT_EQ(RunRanks(4,
                     [](Transport& transport) {
                       auto group = World(transport);
                       for (const int64_t count : {100, 400'000}) {
                         at::Tensor expected = Rough(count, 0);
                         for (int64_t r = 1; r < 4; ++r) expected += Rough(count, r);
                         at::Tensor tensor = Rough(count, group->rank());
                         group->AllReduce(tensor).Wait();
                         EXPECT_TRUE(at::equal(tensor, expected));

                         at::Tensor half_sum = Rough(count, 0).to(at::kBFloat16).to(at::kFloat);
                         for (int64_t r = 1; r < 4; ++r) half_sum += Rough(count, r).to(at::kBFloat16).to(at::kFloat);
                         at::Tensor half = Rough(count, group->rank()).to(at::kBFloat16);
                         group->AllReduce(half).Wait();
                         EXPECT_TRUE(at::equal(half, half_sum.to(at::kBFloat16)));
                       }
                       at::Tensor spoilt = at::full({3}, group->rank() == 1 ? NAN : 1.0, at::kFloat);
                       group->AllReduce(spoilt, ReduceOp::kMax).Wait();
                       EXPECT_TRUE(std::isnan(spoilt[0].item<float>()));
                     }),
            "");
}

TEST(Communicator, ManyGroupsAndOperationsAtOnce) {
  EXPECT_EQ(RunRanks(4,
                     [](Transport& transport) {
                       auto world = World(transport);
                       const int64_t me = transport.rank();
                       const std::vector<int64_t> row =
                           me < 2 ? std::vector<int64_t>{0, 1} : std::vector<int64_t>{2, 3};
                       const std::vector<int64_t> column = {me % 2, me % 2 + 2};
                       auto rows = *transport.NewGroup("row" + std::to_string(me / 2), row);
                       auto columns = *transport.NewGroup("column" + std::to_string(me % 2), column);
                       EXPECT_EQ(rows->rank(), me % 2);
                       EXPECT_EQ(columns->rank(), me / 2);
                       std::vector<at::Tensor> tensors;
                       std::vector<Work> works;
                       for (int64_t i = 0; i < 20; ++i) {
                         for (Communicator* group : {world.get(), rows.get(), columns.get()}) {
                           tensors.push_back(at::full({i % 2 == 0 ? 10 : 50'000}, me + 1, at::kFloat));
                           works.push_back(group->AllReduce(tensors.back()));
                         }
                       }
                       // Waited for in another order on each rank.
                       std::rotate(works.begin(), works.begin() + 11 * me, works.end());
                       for (Work& work : works) work.Wait();
                       const int64_t row_sum = row[0] + row[1] + 2, column_sum = column[0] + column[1] + 2;
                       for (size_t i = 0; i < tensors.size(); ++i) {
                         const int64_t expected = i % 3 == 0 ? 10 : i % 3 == 1 ? row_sum : column_sum;
                         EXPECT_TRUE(at::equal(tensors[i], at::full_like(tensors[i], expected))) << i;
                       }
                     }),
            "");
}

TEST(Communicator, ExchangesInARingWithoutDeadlock) {
  EXPECT_EQ(RunRanks(3,
                     [](Transport& transport) {
                       auto group = World(transport);
                       const int64_t n = 3, me = group->rank(), next = (me + 1) % n, last = (me + n - 1) % n;
                       for (const int64_t count : {1, 3'000'000}) {
                         at::Tensor received = at::empty({count}, at::kFloat);
                         group->Exchange({{Rough(count, me), next}}, {{received, last}}).Wait();
                         EXPECT_TRUE(at::equal(received, Rough(count, last)));
                       }
                       // Messages between two ranks keep their order, in however many calls they were sent.
                       at::Tensor first = at::empty({5}, at::kFloat), second = at::empty({7}, at::kFloat);
                       Work send = group->Exchange({{Rough(5, me), next}}, {});
                       Work send_more = group->Exchange({{Rough(7, me + 5), next}}, {});
                       group->Exchange({}, {{first, last}, {second, last}}).Wait();
                       send_more.Wait();
                       send.Wait();
                       EXPECT_TRUE(at::equal(first, Rough(5, last)));
                       EXPECT_TRUE(at::equal(second, Rough(7, last + 5)));
                     }),
            "");
}

// The formulas stand in communicator.h.
TEST(Communicator, CountsBytes) {
  EXPECT_EQ(RunRanks(4,
                     [](Transport& transport) {
                       auto group = World(transport);
                       const int64_t me = group->rank();
                       at::Tensor small = at::zeros({100}, at::kFloat), large = at::zeros({400}, at::kFloat);
                       group->AllGather(large, small).Wait();
                       group->ReduceScatter(small, large).Wait();
                       group->AllReduce(large).Wait();
                       group->Broadcast(small, 2).Wait();
                       at::Tensor rows = at::zeros({8, 3}, at::kBFloat16), received = at::zeros({8, 3}, at::kBFloat16);
                       group->AllToAll(received, rows).Wait();
                       group->Exchange({{small, (me + 1) % 4}}, {{large.narrow(0, 0, 100), (me + 3) % 4}}).Wait();
                       group->Barrier();
                       const auto bytes = [&](CollectiveKind kind) {
                         const CommunicationCount& count = group->counts()[static_cast<size_t>(kind)];
                         EXPECT_EQ(count.calls, 1) << NameOf(kind);
                         return count.bytes_sent;
                       };
                       EXPECT_EQ(bytes(CollectiveKind::kAllGather), 3 * 400);
                       EXPECT_EQ(bytes(CollectiveKind::kReduceScatter), 3 * 400);
                       EXPECT_EQ(bytes(CollectiveKind::kAllReduce), 2 * 3 * 1600 / 4);
                       EXPECT_EQ(bytes(CollectiveKind::kBroadcast), me == 2 ? 400 : 0);
                       EXPECT_EQ(bytes(CollectiveKind::kAllToAll), 6 * 3 * 2);
                       EXPECT_EQ(bytes(CollectiveKind::kSend), 400);
                       EXPECT_EQ(bytes(CollectiveKind::kRecv), 0);
                       EXPECT_EQ(bytes(CollectiveKind::kBarrier), 0);
                     }),
            "");
}

TEST(Communicator, GroupsOfOneAndDisagreements) {
  EXPECT_EQ(RunRanks(2,
                     [](Transport& transport) {
                       auto alone = *transport.NewGroup("alone" + std::to_string(transport.rank()), {transport.rank()});
                       at::Tensor output = at::zeros({3}, at::kFloat), input = Rough(3, 0);
                       alone->AllGather(output, input).Wait();
                       EXPECT_TRUE(at::equal(output, input));
                       alone->AllReduce(output).Wait();
                       EXPECT_TRUE(at::equal(output, input));
                       alone->Barrier();
                       // The two processes have different groups in mind.
                       const std::vector<int64_t> ranks =
                           transport.rank() == 0 ? std::vector<int64_t>{0, 1} : std::vector<int64_t>{1, 0};
                       auto world = World(transport);
                       if (transport.rank() == 1) world->Barrier();  // rank 0 comes first
                       const auto group = transport.NewGroup("pair", ranks);
                       if (transport.rank() == 0) {
                         EXPECT_TRUE(group.ok());
                         world->Barrier();
                       } else {
                         EXPECT_EQ(group.status().message(), "group pair has ranks 1, 0 on rank 1 but 0, 1 elsewhere");
                       }
                     }),
            "");
}

}  // namespace
}  // namespace titan
