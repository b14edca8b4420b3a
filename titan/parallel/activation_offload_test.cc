#include "titan/parallel/activation_offload.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace titan {
namespace {

constexpr int64_t kSize = 1 << 20;

at::Tensor Numbers(int64_t size, at::Device device = at::kCPU) {
  return at::arange(size, at::TensorOptions(device).dtype(at::kFloat));
}

bool HasMemory(const at::Tensor& tensor) { return tensor.storage().data() != nullptr; }

TEST(ActivationOffloadTest, TensorsAndTheirViewsComeBack) {
  ActivationOffload offload({.blocks = {true}, .lag = 1, .min_bytes = 1});
  const at::Tensor x = Numbers(100), view = x.narrow(0, 30, 10);
  const auto parcel = offload.PutAway({x.storage()}, {});
  EXPECT_FALSE(HasMemory(x));
  offload.BlockDone();
  offload.BlockDone();
  EXPECT_EQ(offload.host_bytes(), 400);
  offload.StartFetch(*parcel);
  offload.StartFetch(*parcel);
  offload.FinishFetch(*parcel);
  EXPECT_TRUE(at::equal(x, Numbers(100)));
  EXPECT_TRUE(at::equal(view, Numbers(100).narrow(0, 30, 10)));
}

TEST(ActivationOffloadTest, LeavesWhatIsSmallAndWhatOthersNeed) {
  ActivationOffload offload({.blocks = {true}, .lag = 1, .min_bytes = 400});
  const at::Tensor taken = Numbers(100), small = Numbers(99), shared = Numbers(200);
  const auto parcel =
      offload.PutAway({taken.storage(), small.storage(), shared.storage()}, {shared.narrow(0, 5, 10), at::Tensor()});
  EXPECT_FALSE(HasMemory(taken));
  EXPECT_TRUE(HasMemory(small));
  EXPECT_TRUE(HasMemory(shared));
  offload.FinishFetch(*parcel);
  EXPECT_TRUE(at::equal(taken, Numbers(100)));
}

TEST(ActivationOffloadTest, WhatHasNotLeftYetStays) {
  ActivationOffload offload({.blocks = {true}, .lag = 3, .min_bytes = 1});
  const at::Tensor x = Numbers(100);
  const void* const memory = x.const_data_ptr();
  const auto parcel = offload.PutAway({x.storage()}, {});
  offload.BlockDone();
  offload.FinishFetch(*parcel);
  EXPECT_EQ(x.const_data_ptr(), memory);
  for (int i = 0; i < 5; ++i) offload.BlockDone();
  EXPECT_EQ(x.const_data_ptr(), memory);
  EXPECT_TRUE(at::equal(x, Numbers(100)));
}

// Several under way, again and again through the same memory of the host; what is given back is written over at once. A
// copy that runs too early, or memory that is used too early, gives other numbers.
void ExpectRoundTrips(at::Device device) {
  ActivationOffload offload({.device = device, .blocks = {true}, .lag = 1});
  const auto overwrite = [&] { return at::full({kSize}, -1.0, at::TensorOptions(device).dtype(at::kFloat)); };
  for (int round = 0; round < 10; ++round) {
    std::vector<std::pair<at::Tensor, std::shared_ptr<ActivationParcel>>> kept;
    for (int block = 0; block < 4; ++block) {
      const at::Tensor x = Numbers(kSize, device) * (round + 1) + block;
      kept.emplace_back(x, offload.PutAway({x.storage()}, {}));
      offload.BlockDone();
      overwrite();
    }
    offload.BlockDone();
    for (const auto& [x, parcel] : kept) EXPECT_FALSE(HasMemory(x));
    for (int block = 3; block >= 0; --block) {
      if (block > 0) offload.StartFetch(*kept[block - 1].second);
      offload.FinishFetch(*kept[block].second);
      EXPECT_TRUE(at::equal(kept[block].first, Numbers(kSize, device) * (round + 1) + block)) << round << " " << block;
      kept.pop_back();
      overwrite();
      offload.BlockDone();
    }
  }
  EXPECT_EQ(offload.host_bytes(), 4 * kSize * 4);
}

TEST(ActivationOffloadTest, OnTheCpu) { ExpectRoundTrips(at::kCPU); }

TEST(ActivationOffloadTest, OnAGpu) {
  if (!at::globalContext().hasCUDA()) GTEST_SKIP() << "no GPU";
  ExpectRoundTrips(at::Device(at::kCUDA, 0));
}

}  // namespace
}  // namespace titan
