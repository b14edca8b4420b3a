#include "titan/metrics/profile_panel.h"

#include <filesystem>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/base/file.h"

namespace titan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class ProfilePanelTest : public ::testing::Test {
 protected:
  void Write(std::string_view iteration, std::string_view events) {
    const std::string folder = absl::StrCat(traces_, "/", iteration);
    ASSERT_TRUE(MakeDirectories(folder).ok());
    ASSERT_TRUE(
        WriteFileAtomically(folder + "/rank0_trace.json", absl::StrCat(R"({"traceEvents":[)", events, "]}")).ok());
  }

  const std::string traces_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(ProfilePanelTest, ShowsTheNewestTrace) {
  EXPECT_EQ(ProfilePanel(traces_), "");
  Write("iteration_9", R"({"ph":"X","cat":"kernel","name":"old","ts":0,"dur":1})");
  Write("iteration_10", R"({"ph":"X","cat":"kernel","name":"nvjet_gemm","ts":0,"dur":6000},
                           {"ph":"X","cat":"kernel","name":"AdamWKernel","ts":6000,"dur":1000},
                           {"ph":"X","cat":"kernel","name":"ncclDevKernel_AllGather","ts":5000,"dur":3000},
                           {"ph":"X","cat":"kernel","name":"copy","ts":9000,"dur":1000})");
  EXPECT_THAT(ProfilePanel(traces_),
              AllOf(HasSubstr("iteration_10"), HasSubstr("matrix products</td><td>6.00 ms</td><td>60.0 %"),
                    HasSubstr("optimizer</td><td>1.00 ms</td><td>10.0 %"),
                    HasSubstr("communication, exposed</td><td>1.00 ms</td><td>10.0 %"),
                    HasSubstr("communication, hidden behind kernels</td><td>2.00 ms"),
                    HasSubstr("idle</td><td>1.00 ms</td><td>10.0 %"), Not(HasSubstr("iteration_9"))));
}

TEST_F(ProfilePanelTest, SaysWhyATraceDoesNotTell) {
  Write("iteration_5", R"({"ph":"X","cat":"cpu_op","name":"aten::mm","ts":0,"dur":1})");
  EXPECT_THAT(ProfilePanel(traces_), HasSubstr("holds no kernel of a GPU"));
}

}  // namespace
}  // namespace titan
