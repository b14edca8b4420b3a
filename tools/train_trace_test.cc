// Twenty steps of training against PyTorch's numbers (computed in float64): loss, gradient norm, learning rate, and the
// parameters at the end.

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "titan/checkpoint/tensors.h"
#include "tools/train_trace_replay.h"

namespace titan {
namespace {

struct Tolerance {
  double loss, grad_norm;     // relative
  double parameters, states;  // relative 2-norm of each tensor
};

constexpr Tolerance kFp64 = {.loss = 1e-9, .grad_norm = 1e-9, .parameters = 1e-8, .states = 1e-6};
constexpr Tolerance kFp32 = {.loss = 2e-6, .grad_norm = 1e-5, .parameters = 1e-4, .states = 1e-3};

at::Tensor Get(const NamedTensors& tensors, const std::string& name) {
  const at::Tensor* tensor = FindTensor(tensors, name);
  if (tensor == nullptr) {
    ADD_FAILURE() << "no tensor " << name;
    return at::Tensor();
  }
  return tensor->to(at::kDouble);
}

void ExpectSeries(const NamedTensors& out, const nlohmann::json& expected, const std::string& name, double tolerance) {
  const at::Tensor actual = Get(out, name);
  ASSERT_EQ(actual.numel(), static_cast<int64_t>(expected.at(name).size()));
  for (int64_t step = 0; step < actual.numel(); ++step) {
    const double value = expected.at(name).at(step);
    EXPECT_NEAR(actual.const_data_ptr<double>()[step], value, tolerance * value) << name << " of step " << step;
  }
}

// Compares each tensor of `file` whose name begins with `prefix`; returns how many.
int ExpectTensors(const NamedTensors& out, const std::string& file, const std::string& prefix, double tolerance) {
  const NamedTensors expected = ReadTensors(file).value();
  int compared = 0;
  for (const auto& [name, value] : expected) {
    if (!absl::StartsWith(name, prefix)) continue;
    const at::Tensor wide = value.to(at::kDouble);
    const double error = Get(out, name).sub(wide).norm().item<double>() / wide.norm().item<double>();
    EXPECT_LE(error, tolerance) << name;
    ++compared;
  }
  return compared;
}

class TrainTraceTest : public testing::TestWithParam<const char*> {
 protected:
  void ExpectFollows(bool fp64, const Tolerance& tolerance) {
    const std::string trace = absl::StrCat("tools/testdata/traces/", GetParam());
    const auto out = ReplayTrace(absl::StrCat("titan/checkpoint/testdata/",
                                              std::string(GetParam()) == "llama" ? "llama_trace" : "llama_trace_tied"),
                                 trace, {.fp64 = fp64, .states = true});
    ASSERT_TRUE(out.ok()) << out.status();
    std::ifstream file(trace + "/trace.json");
    const auto expected = nlohmann::json::parse(file).at("float64");
    ExpectSeries(*out, expected, "loss", tolerance.loss);
    ExpectSeries(*out, expected, "grad_norm", tolerance.grad_norm);
    ExpectSeries(*out, expected, "lr", 1e-15);
    EXPECT_GE(ExpectTensors(*out, trace + "/final_f64.safetensors", "param.", tolerance.parameters), 10);
    EXPECT_GE(ExpectTensors(*out, trace + "/states.safetensors", "exp_avg", tolerance.states), 20);
  }
};

TEST_P(TrainTraceTest, FollowsInFp64) { ExpectFollows(/*fp64=*/true, kFp64); }
TEST_P(TrainTraceTest, FollowsInFp32) { ExpectFollows(/*fp64=*/false, kFp32); }

INSTANTIATE_TEST_SUITE_P(Traces, TrainTraceTest, testing::Values("llama", "llama_tied"));

TEST(TrainTraceErrorsTest, NamesWhatIsMissing) {
  const auto out = ReplayTrace("titan/checkpoint/testdata/llama_trace", "no/such/trace", {});
  ASSERT_FALSE(out.ok());
  EXPECT_NE(out.status().message().find("no/such/trace/trace.json"), std::string::npos);
}

}  // namespace
}  // namespace titan
