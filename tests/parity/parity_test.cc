// Every layout against one process: 10 steps of the debug Llama in fp32, as real processes over Gloo. Two worlds of
// processes are started once and share the layouts, because ranks that wait for one another leave half of a machine of
// two cores idle; what each rank 0 found is looked at here, layout by layout.

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/parity/layouts.h"
#include "tests/parity/rank.h"
#include "titan/base/file.h"
#include "titan/parallel/multi_process_test.h"

namespace titan {
namespace {

constexpr int64_t kProcesses = 8;
constexpr double kLossTolerance = 1e-5;       // relative
constexpr double kGradNormTolerance = 1e-4;   // relative
constexpr double kParameterTolerance = 1e-4;  // absolute

// The layouts whose tests --gtest_filter has left, so that a few of them take a few seconds. The other tests, which
// look at several layouts, want all; returns whether one of those was left.
bool Selected(std::vector<Layout>& layouts) {
  const testing::UnitTest& unit = *testing::UnitTest::GetInstance();
  std::set<std::string> names;
  bool all = false;
  for (int i = 0; i < unit.total_test_suite_count(); ++i) {
    const testing::TestSuite& suite = *unit.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); ++j) {
      const testing::TestInfo& test = *suite.GetTestInfo(j);
      if (!test.should_run()) continue;
      const std::string name = test.name();  // "AgreesWithOneProcess/tp2"
      all |= test.value_param() == nullptr;
      names.insert(name.substr(name.find('/') + 1));
    }
  }
  for (const Layout& layout : Layouts()) {
    if (all || names.count(layout.name) > 0) layouts.push_back(layout);
  }
  return all;
}

class World {
 public:
  World(std::string file, std::vector<Layout> layouts, bool with_controls)
      : file_(std::move(file)), ranks_(kProcesses, [&](TransportOptions options) {
          options.timeout = std::chrono::minutes(30);  // the ranks that a layout does not need wait for the next one
          absl::StatusOr<std::unique_ptr<Transport>> transport = ConnectTransport(options);
          ASSERT_TRUE(transport.ok()) << transport.status();
          const absl::Status status = RunParityRank(**transport, layouts, with_controls, file_);
          EXPECT_TRUE(status.ok()) << status;
          if (!status.ok()) (*transport)->Abort(std::string(status.message()));
        }) {}

  // Waits for the ranks. By layout, what it found.
  nlohmann::json Results() {
    for (int64_t rank = 0; rank < kProcesses; ++rank) {
      EXPECT_EQ(ranks_.Wait(rank), 0) << file_ << ", rank " << rank << ": " << ranks_.Error(rank);
    }
    const absl::StatusOr<std::string> text = ReadFile(file_);
    return nlohmann::json::parse(text.ok() ? *text : "{}");
  }

 private:
  const std::string file_;
  RankProcesses ranks_;
};

const nlohmann::json& Results() {
  static const auto* const results = [] {
    std::vector<Layout> layouts;
    const bool with_controls = Selected(layouts);
    std::vector<Layout> even, odd;
    for (size_t i = 0; i < layouts.size(); ++i) (i % 2 == 0 ? even : odd).push_back(layouts[i]);
    World first(::testing::TempDir() + "/even.json", even, with_controls);
    World second(::testing::TempDir() + "/odd.json", odd, /*with_controls=*/false);
    auto* const all = new nlohmann::json(first.Results());
    all->update(second.Results());
    return all;
  }();
  return *results;
}

bool Agrees(const nlohmann::json& result) {
  return result["loss_error"] <= kLossTolerance && result["grad_norm_error"] <= kGradNormTolerance &&
         result["validation_error"] <= kLossTolerance && result["parameter_error"] <= kParameterTolerance;
}

class ParityTest : public ::testing::TestWithParam<Layout> {};

TEST_P(ParityTest, AgreesWithOneProcess) {
  const Layout& layout = GetParam();
  ASSERT_TRUE(Results().contains(layout.name)) << "the layout did not run";
  const nlohmann::json& result = Results()[layout.name];
  RecordProperty("result", result.dump());
  EXPECT_TRUE(Agrees(result)) << result;
  EXPECT_EQ(result["parameters_compared"], layout.tied ? 56 : 57);
  // Muon keeps one for each of the 42 matrices of layers; AdamW two for each parameter.
  EXPECT_EQ(result["averages"], layout.muon ? 42 + 2 * 15 : layout.tied ? 112 : 114);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ParityTest, ::testing::ValuesIn(Layouts()),
                         [](const auto& info) { return info.param.name; });

TEST(ParityTest, BitwiseModeGivesTheSameBitsAgain) { EXPECT_EQ(Results()["second"]["same_bits"], true); }

TEST(ParityTest, NegativeControlsDiffer) {
  for (const char* name : {"skipped_reduction", "skipped_norm_reduction", "wrong_divisor"}) {
    ASSERT_TRUE(Results().contains(name)) << name;
    EXPECT_FALSE(Agrees(Results()[name])) << name << ": " << Results()[name];
  }
}

// What is only kept or lies elsewhere changes no bit.
TEST(ParityTest, MemoryIsSavedWithoutChangingAnything) {
  for (const auto& [layout, base] : std::vector<std::pair<std::string, std::string>>{
           {"fsdp2_offload", "fsdp2"},
           {"fsdp2_offload_accumulation_reduced", "fsdp2_accumulation_reduced"},
           {"hsdp2x2_offload", "hsdp2x2"},
           {"pp2_tp2_offload", "pp2_tp2"},
           {"fsdp2_offloaded_activations", "fsdp2_accumulation"},
           {"tp2_offloaded_activations", "tp2"},
           {"selective_op", "full_recomputation"},
           {"selective_elementwise", "full_recomputation"},
           {"tp2_selective_elementwise", "tp2"},
           {"fsdp2_selective_op", "fsdp2"},
           {"tp2_selective_op", "tp2"},
           {"tp2_overlapped_selective_op", "tp2_overlapped"},
           {"cp2_selective_op", "cp2"},
           {"cp2_ulysses_selective_op", "cp2_ulysses"},
           {"pp2_zbv_selective_op", "pp2_zbv"}}) {
    for (const char* key : {"loss_error", "grad_norm_error", "parameter_error", "first_loss", "last_loss"}) {
      EXPECT_EQ(Results()[layout][key], Results()[base][key]) << layout << " " << key;
    }
  }
}

TEST(ParityTest, ShardsTheMemoryOfParameters) {
  const auto bytes = [](const char* layout) { return Results()[layout]["parameter_bytes"].get<double>(); };
  const double whole = bytes("accumulation");
  EXPECT_NEAR(bytes("fsdp2") / whole, 1.0 / 2, 0.001);
  EXPECT_NEAR(bytes("fsdp8") / whole, 1.0 / 8, 0.001);
  EXPECT_NEAR(bytes("hsdp2x2") / whole, 1.0 / 2, 0.001);
  EXPECT_EQ(bytes("ddp2") / whole, 1.0);
}

}  // namespace
}  // namespace titan
