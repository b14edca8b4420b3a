// What the layers of a real model keep, and what they compute again, for each kind of recomputation.

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"
#include "titan/model/init.h"
#include "titan/parallel/activation_offload.h"
#include "titan/parallel/parameters.h"
#include "titan/parallel/walk.h"
#include "titan/plan/host_memory.h"

namespace titan {
namespace {

constexpr int64_t kLayers = 3, kDim = 32, kHeads = 4, kKvHeads = 2, kHeadDim = 8, kFfn = 48;
constexpr int64_t kRows = 2, kSeqLen = 16;

std::atomic<int64_t> live_bytes = 0;
std::atomic<int64_t> num_products = 0;

// The CPU's, with the sum of what is allocated.
class CountingAllocator : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* inner) : inner_(inner) {}
  c10::DataPtr allocate(size_t bytes) override {
    live_bytes += static_cast<int64_t>(bytes);
    auto* const block = new Block{inner_->allocate(bytes), static_cast<int64_t>(bytes)};
    return {block->memory.get(), block, &Free, c10::Device(c10::kCPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

 private:
  struct Block {
    c10::DataPtr memory;
    int64_t bytes;
  };
  static void Free(void* pointer) {
    const std::unique_ptr<Block> block(static_cast<Block*>(pointer));
    live_bytes -= block->bytes;
  }

  c10::Allocator* const inner_;
};

std::unique_ptr<at::ObserverContext> CountProducts(const at::RecordFunction& function) {
  if (std::strcmp(function.name(), "aten::linear") == 0) ++num_products;
  return nullptr;
}

config::Experiment SmallExperiment() {
  const auto experiment = ReadExperiment(R"({
    "model": {"name": "llama3", "dim": 32, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "ffn_hidden_dim": 48,
              "vocab_size": 64},
    "data": {"sources": [{"corpus": "synthetic"}]},
    "training": {"seq_len": 16, "local_batch_size": 2, "steps": 10},
    "optimizer": {"lr": 0.01},
    "lr_scheduler": {"warmup_steps": 2}
  })",
                                         {.source_name = "test"});
  EXPECT_TRUE(experiment.ok()) << experiment.status();
  return *experiment;
}

struct Outcome {
  int64_t bytes = 0;     // held between forward and backward
  int64_t products = 0;  // matrix products of forward and of what ran again
  at::Tensor loss;
  std::vector<at::Tensor> gradients;
};

// That nobody else's memory has been taken.
void ExpectInPlace(const std::vector<at::Tensor>& tensors) {
  for (const at::Tensor& tensor : tensors) EXPECT_NE(tensor.storage().data(), nullptr) << tensor.sizes();
}

Outcome Walk(Recompute layers, bool split_backward = false, ActivationOffload* offload = nullptr) {
  const config::Experiment experiment = SmallExperiment();
  const std::unique_ptr<Model> model = *Model::Create(experiment.model());
  const std::unique_ptr<ParallelGroups> groups = ParallelGroups::Single();
  const std::unique_ptr<Parameters> parameters = *Parameters::Create(
      model->spec(), *groups, {}, [](const ParameterSpec& parameter) { return InitialValue(parameter, 1); });
  std::vector<Recompute> recompute(kLayers + 2, layers);
  recompute.front() = recompute.back() = Recompute::kNothing;
  const auto constant = [](int64_t value) { return at::full({kRows, kSeqLen}, value, at::kLong); };
  const Microbatch microbatch{
      .tokens = constant(3), .labels = constant(5), .context = model->MakeContext(constant(0), {})};

  Outcome outcome;
  parameters->BeginStep(1);
  const int64_t bytes_before = live_bytes, products_before = num_products;
  StageWalk walk(*model, *parameters, 0, kLayers + 2, microbatch, recompute, split_backward, offload);
  outcome.loss = walk.Forward(at::Tensor());
  outcome.bytes = live_bytes - bytes_before;
  ExpectInPlace(microbatch.context.Tensors());
  ExpectInPlace({microbatch.tokens, microbatch.labels, outcome.loss});
  for (size_t block = 0; block < kLayers + 2; ++block) ExpectInPlace(parameters->Weights(block));
  if (split_backward) {
    walk.BackwardInput(at::ones_like(outcome.loss));
    walk.BackwardWeight();
  } else {
    walk.Backward(at::ones_like(outcome.loss));
  }
  outcome.products = num_products - products_before;
  parameters->FinishGradients();
  outcome.gradients = parameters->gradients();
  return outcome;
}

class RecomputeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    c10::SetCPUAllocator(new CountingAllocator(c10::GetCPUAllocator()), /*priority=*/1);
    at::addGlobalCallback(at::RecordFunctionCallback(&CountProducts).scopes({at::RecordScope::FUNCTION}));
  }
};

TEST_F(RecomputeTest, KeepsLessAndComputesMore) {
  const Outcome none = Walk(Recompute::kNothing), elementwise = Walk(Recompute::kElementwise),
                cheap = Walk(Recompute::kCheap), all = Walk(Recompute::kAll);
  EXPECT_EQ(none.products, 7 * kLayers);
  EXPECT_EQ(cheap.products, (7 + 3) * kLayers);  // k, output, up
  EXPECT_EQ(all.products, (7 + 7) * kLayers);
  EXPECT_EQ(elementwise.products, 7 * kLayers);
  EXPECT_GT(none.bytes, elementwise.bytes);
  EXPECT_GT(elementwise.bytes, cheap.bytes);
  // Of each token: q, v and gate; attention's output, and a number for each of its heads. Of down a 0 in its place.
  const int64_t kept = kDim + kKvHeads * kHeadDim + kFfn + kDim + kHeads;
  EXPECT_EQ(cheap.bytes - all.bytes, kLayers * (kRows * kSeqLen * kept + 1) * 4);
  // And k, the output projection's and up.
  EXPECT_EQ(elementwise.bytes - cheap.bytes, kLayers * kRows * kSeqLen * (kKvHeads * kHeadDim + kDim + kFfn) * 4);
}

void ExpectSame(const Outcome& outcome, const Outcome& expected) {
  EXPECT_TRUE(at::equal(outcome.loss, expected.loss));
  ASSERT_EQ(outcome.gradients.size(), expected.gradients.size());
  for (size_t i = 0; i < expected.gradients.size(); ++i) {
    EXPECT_TRUE(at::equal(outcome.gradients[i], expected.gradients[i])) << i;
  }
}

TEST_F(RecomputeTest, ChangesNoBit) {
  const Outcome expected = Walk(Recompute::kNothing);
  for (const Recompute layers : {Recompute::kElementwise, Recompute::kCheap, Recompute::kAll}) {
    for (const bool split_backward : {false, true}) {
      ExpectSame(Walk(layers, split_backward), expected);
    }
  }
}

// The host's memory is the device's here: what is not given back is there twice.
TEST_F(RecomputeTest, OffloadedMemoryIsGivenBack) {
  const Outcome none = Walk(Recompute::kNothing);
  ActivationOffload offload({.blocks = {false, true, true, false, false}, .lag = 1, .min_bytes = 2048});
  const Outcome first = Walk(Recompute::kNothing, /*split_backward=*/false, &offload);
  // Of each token: what the norms give, queries, attention's output, the residual sum; keys and values; gate, up and
  // their product. Not the layer's input and output, nor the tables of RoPE.
  const int64_t kept = 5 * kDim + 2 * kKvHeads * kHeadDim + 3 * kFfn;
  EXPECT_EQ(offload.host_bytes(), 2 * kRows * kSeqLen * kept * 4);
  EXPECT_EQ(first.bytes, none.bytes);
  ExpectSame(first, none);
  const Outcome second = Walk(Recompute::kNothing, /*split_backward=*/false, &offload);
  EXPECT_EQ(offload.host_bytes(), 2 * kRows * kSeqLen * kept * 4) << "the host's memory was not used again";
  EXPECT_EQ(second.bytes, none.bytes - offload.host_bytes());
  ExpectSame(second, none);
}

// The plan's sums are about this very memory.
TEST_F(RecomputeTest, ThePlanKnowsWhatIsOffloaded) {
  config::Experiment experiment = SmallExperiment();
  experiment.mutable_training()->set_mixed_precision_param(config::Training::DTYPE_FLOAT32);
  plan::Mesh mesh;
  mesh.set_cp(1);
  mesh.set_tp(1);
  for (const int64_t min_bytes : {100, 200, 1000, 2048, 4096}) {
    ActivationOffload offload({.blocks = {false, true, false, false, false}, .lag = 1, .min_bytes = min_bytes});
    Walk(Recompute::kNothing, /*split_backward=*/false, &offload);
    const std::vector<int64_t> planned = OffloadedTensors(experiment, mesh, min_bytes);
    EXPECT_EQ(offload.host_bytes(), std::accumulate(planned.begin(), planned.end(), int64_t{0})) << min_bytes;
  }
}

// Whatever there is to offload, and however late its memory is given back.
TEST_F(RecomputeTest, OffloadingChangesNoBit) {
  const Outcome none = Walk(Recompute::kNothing);
  for (const int64_t lag : {0, 1, 3, 100}) {
    ActivationOffload offload({.blocks = {true, true, true, true, true}, .lag = lag, .min_bytes = 0});
    for (int round = 0; round < 2; ++round) {
      ExpectSame(Walk(Recompute::kNothing, /*split_backward=*/false, &offload), none);
      EXPECT_GT(offload.host_bytes(), 0);
    }
  }
}

}  // namespace
}  // namespace titan
