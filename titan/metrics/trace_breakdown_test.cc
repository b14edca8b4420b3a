#include "titan/metrics/trace_breakdown.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using testing::HasSubstr;

std::string Event(const std::string& category, const std::string& name, double begin, double duration) {
  return absl::StrCat(R"({"ph":"X","cat":")", category, R"(","name":")", name, R"(","ts":)", begin, R"(,"dur":)",
                      duration, "},");
}

std::string Trace(const std::string& events) {
  return absl::StrCat(R"({"schemaVersion":1,"traceEvents":[)", events, R"({"ph":"M","name":"process_name"}]})");
}

TEST(TraceBreakdown, TellsHiddenFromExposedCommunication) {
  // 0 to 10 a product; 8 to 14 a gather, hidden for 2; 14 to 20 nothing; 20 to 25 another kernel; 22 to 24 a reduction
  // behind it, and a second one that runs beside the first.
  const auto breakdown = BreakDownTrace(Trace(
      Event("kernel", "nvjet_hsh_128x256", 100, 10) + Event("kernel", "ncclDevKernel_AllGather_RING_LL", 108, 6) +
      Event("kernel", "elementwise_kernel", 120, 5) + Event("kernel", "ncclDevKernel_ReduceScatter_Sum_f32", 122, 2) +
      Event("kernel", "ncclDevKernel_AllReduce_Sum_f32", 122, 1) + Event("cpu_op", "aten::mm", 0, 1000)));
  ASSERT_TRUE(breakdown.ok()) << breakdown.status();
  EXPECT_NEAR(breakdown->span, 25e-6, 1e-12);
  EXPECT_NEAR(breakdown->compute, 15e-6, 1e-12);
  EXPECT_NEAR(breakdown->communication, 8e-6, 1e-12);
  EXPECT_NEAR(breakdown->hidden, 4e-6, 1e-12);
  EXPECT_NEAR(breakdown->exposed(), 4e-6, 1e-12);
  EXPECT_NEAR(breakdown->idle, 6e-6, 1e-12);
  EXPECT_NEAR(breakdown->by_kind.at(KernelKind::kCommunication), 9e-6, 1e-12);
  EXPECT_NEAR(breakdown->by_kind.at(KernelKind::kGemm), 10e-6, 1e-12);
  EXPECT_THAT(FormatBreakdown(*breakdown), HasSubstr("of communication 50.0 % is hidden"));
}

TEST(TraceBreakdown, KnowsKernelsByName) {
  EXPECT_EQ(KindOfKernel("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm>"), KernelKind::kGemm);
  EXPECT_EQ(KindOfKernel("cudnn_generated_fort_native_sdpa_sm90_flash_bprop"), KernelKind::kAttention);
  EXPECT_EQ(KindOfKernel("fmha_cutlassB_bf16_aligned"), KernelKind::kAttention);
  EXPECT_EQ(KindOfKernel("Memcpy DtoD (Device -> Device)"), KernelKind::kMemoryCopy);
  EXPECT_EQ(KindOfKernel("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)"), KernelKind::kCommunication);
  EXPECT_EQ(KindOfKernel("void titan::cuda::AdamWKernel<float>(titan::cuda::Table)"), KernelKind::kOptimizer);
  EXPECT_EQ(KindOfKernel("vectorized_elementwise_kernel"), KernelKind::kOther);
}

TEST(TraceBreakdown, SaysWhatIsWrong) {
  EXPECT_THAT(std::string(BreakDownTrace("[]").status().message()), HasSubstr("not a trace"));
  EXPECT_THAT(std::string(BreakDownTrace("{").status().message()), HasSubstr("not a trace"));
  EXPECT_THAT(std::string(BreakDownTrace(Trace(Event("cpu_op", "aten::mm", 0, 1))).status().message()),
              HasSubstr("no kernel of a GPU"));
  EXPECT_THAT(
      std::string(
          BreakDownTrace(R"({"traceEvents":[{"ph":"X","cat":"kernel","name":"a","ts":"b"}]})").status().message()),
      HasSubstr("without ts and dur"));
}

}  // namespace
}  // namespace titan
