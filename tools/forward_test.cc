// Every Llama model of the golden fixtures, forward and backward, against Hugging Face's numbers (computed in float64,
// stored in fp32).

#include <ATen/ops/cat.h>

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/checkpoint/tensors.h"
#include "tools/forward_hf.h"

namespace titan {
namespace {

struct Tolerance {
  double logits, hidden, loss, gradient;
};

constexpr Tolerance kFp32 = {.logits = 1e-4, .hidden = 3e-4, .loss = 2e-6, .gradient = 5e-5};
constexpr Tolerance kFp64 = {.logits = 1e-6, .hidden = 1e-6, .loss = 1e-6, .gradient = 1e-6};

std::string Folder(const std::string& name) { return absl::StrCat("titan/checkpoint/testdata/", name); }

NamedTensors Expected(const std::string& name) {
  return ReadTensors(absl::StrCat(Folder(name), "/expected.safetensors")).value();
}

at::Tensor Get(const NamedTensors& tensors, const std::string& name) {
  const at::Tensor* tensor = FindTensor(tensors, name);
  if (tensor == nullptr) {
    ADD_FAILURE() << "no tensor " << name;
    return at::Tensor();
  }
  return tensor->to(at::kDouble);
}

double MaxDifference(const at::Tensor& a, const at::Tensor& b) { return a.sub(b).abs().max().item<double>(); }

// fp64 results are compared with numbers that were rounded to fp32: 2^-24 of their size.
double Allowed(double tolerance, const at::Tensor& expected) {
  return tolerance + 6e-8 * expected.abs().max().item<double>();
}

void ExpectLogitsAndLoss(const NamedTensors& actual, const NamedTensors& expected, const std::string& prefix,
                         const Tolerance& tolerance) {
  const at::Tensor logits = Get(expected, prefix + "logits");
  EXPECT_LE(MaxDifference(Get(actual, "logits"), logits), Allowed(tolerance.logits, logits));
  const double loss = Get(expected, prefix + "loss").item<double>();
  EXPECT_NEAR(Get(actual, "loss").item<double>() / loss, 1, tolerance.loss);
}

// Returns how many were compared.
int ExpectHiddenAndGradients(const NamedTensors& actual, const NamedTensors& expected, const Tolerance& tolerance) {
  int compared = 0;
  for (const auto& [name, value] : expected) {
    const at::Tensor golden = value.to(at::kDouble);
    if (absl::StartsWith(name, "hidden.")) {
      EXPECT_LE(MaxDifference(Get(actual, name), golden), Allowed(tolerance.hidden, golden)) << name;
      ++compared;
    } else if (absl::StartsWith(name, "grad.")) {
      const at::Tensor difference = Get(actual, name).sub(golden);
      EXPECT_LE(difference.norm().item<double>() / golden.norm().item<double>(), tolerance.gradient) << name;
      ++compared;
    }
  }
  return compared;
}

class GoldenModelTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenModelTest, ForwardAndBackward) {
  const NamedTensors expected = Expected(GetParam());
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    SCOPED_TRACE(at::toString(dtype));
    const Tolerance& tolerance = dtype == at::kFloat ? kFp32 : kFp64;
    const auto actual = ForwardHf(Folder(GetParam()), expected, {.dtype = dtype, .backward = true, .hidden = true});
    ASSERT_TRUE(actual.ok()) << actual.status();
    ExpectLogitsAndLoss(*actual, expected, "", tolerance);
    EXPECT_GT(ExpectHiddenAndGradients(*actual, expected, tolerance), 10);
    // The same loss when nothing needs gradients.
    const auto inference = ForwardHf(Folder(GetParam()), expected, {.dtype = dtype});
    ASSERT_TRUE(inference.ok()) << inference.status();
    EXPECT_EQ(inference->size(), 2u);
    ExpectLogitsAndLoss(*inference, expected, "", tolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, GoldenModelTest,
                         testing::Values("llama3_1", "llama3_2_tied", "llama_plain", "llama_trace", "llama_trace_tied"),
                         [](const auto& info) { return info.param; });

TEST(ForwardTest, PackedDocuments) {
  const NamedTensors expected = Expected("llama3_1");
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const Tolerance& tolerance = dtype == at::kFloat ? kFp32 : kFp64;
    const auto actual = ForwardHf(Folder("llama3_1"), expected, {.dtype = dtype, .packed = true, .backward = true});
    ASSERT_TRUE(actual.ok()) << actual.status();
    ExpectLogitsAndLoss(*actual, expected, "packed.", tolerance);
    // Documents make a difference that the tolerance sees.
    EXPECT_GT(MaxDifference(Get(*actual, "logits"), Get(expected, "logits")), 0.01);
  }
}

// Either of the two names is enough, with or without the prefix.
TEST(ForwardTest, DocumentsOrPositions) {
  const NamedTensors expected = Expected("llama3_1");
  const at::Tensor ids = *FindTensor(expected, "input_ids"), labels = *FindTensor(expected, "labels");
  for (const std::string name : {"document_ids", "position_ids"}) {
    const NamedTensors inputs = {
        {"input_ids", ids}, {"labels", labels}, {name, *FindTensor(expected, "packed." + name)}};
    const auto actual = ForwardHf(Folder("llama3_1"), inputs, {});
    ASSERT_TRUE(actual.ok()) << actual.status();
    ExpectLogitsAndLoss(*actual, expected, "packed.", kFp32);
  }
}

// bf16 weights in shards, widened and computed in fp32 or fp64.
TEST(ForwardTest, ShardedBf16Checkpoint) {
  const NamedTensors expected = Expected("llama3_1_bf16_sharded");
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const auto actual = ForwardHf(Folder("llama3_1_bf16_sharded"), expected, {.dtype = dtype});
    ASSERT_TRUE(actual.ok()) << actual.status();
    ExpectLogitsAndLoss(*actual, expected, "", dtype == at::kFloat ? kFp32 : kFp64);
  }
}

TEST(ForwardTest, BadInputsSayWhatIsWrong) {
  using testing::HasSubstr;
  const NamedTensors expected = Expected("llama_trace");
  const at::Tensor ids = *FindTensor(expected, "input_ids"), labels = *FindTensor(expected, "labels");
  const auto message = [&](const NamedTensors& inputs, const ForwardOptions& options = {}) {
    return std::string(ForwardHf(Folder("llama_trace"), inputs, options).status().message());
  };
  EXPECT_THAT(message({{"labels", labels}}), HasSubstr("input_ids"));
  EXPECT_THAT(message({{"input_ids", ids}, {"labels", labels.to(at::kFloat)}}), HasSubstr("I64"));
  EXPECT_THAT(message({{"input_ids", ids}, {"labels", at::cat({labels, labels})}}), HasSubstr("shape"));
  EXPECT_THAT(message({{"input_ids", ids.add(100000)}, {"labels", labels}}), HasSubstr("vocabulary"));
  EXPECT_THAT(message({{"input_ids", ids}, {"labels", labels.clone().fill_(-7)}}), HasSubstr("-7"));
  EXPECT_THAT(message({{"input_ids", ids}, {"labels", labels.clone().fill_(-100)}}), HasSubstr("every label is -100"));
  EXPECT_THAT(message({{"input_ids", ids}, {"labels", labels}}, {.packed = true}), HasSubstr("packed.document_ids"));
  EXPECT_THAT(message({{"input_ids", ids}, {"labels", labels}, {"document_ids", ids.mul(0)}, {"position_ids", ids}}),
              HasSubstr("do not restart"));
}

}  // namespace
}  // namespace titan
