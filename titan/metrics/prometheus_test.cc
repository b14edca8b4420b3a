#include "titan/metrics/prometheus.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <limits>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace titan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

int64_t PortOf(const std::string& url) {
  int64_t port = 0;
  const size_t colon = url.rfind(':');
  EXPECT_TRUE(absl::SimpleAtoi(url.substr(colon + 1, url.rfind('/') - colon - 1), &port)) << url;
  return port;
}

int Connect(int64_t port) {
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  return client;
}

// All that the server answers, until it closes.
std::string Ask(const PrometheusSink& sink, const std::string& request) {
  const int client = Connect(PortOf(sink.url()));
  EXPECT_EQ(send(client, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  std::string answer;
  char bytes[4096];
  for (ssize_t count = 0; (count = recv(client, bytes, sizeof(bytes), 0)) > 0;) answer.append(bytes, count);
  close(client);
  return answer;
}

constexpr char kGet[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

std::unique_ptr<PrometheusSink> Open() {
  return OpenPrometheus({.address = "127.0.0.1", .port = 0, .run = "llama3/\"debug\"", .digest = "abc"}).value();
}

TEST(PrometheusTest, SaysWhatRunsBeforeTheFirstStep) {
  const auto sink = Open();
  const std::string answer = Ask(*sink, kGet);
  EXPECT_TRUE(absl::StartsWith(answer, "HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_THAT(answer, AllOf(HasSubstr("Content-Type: text/plain; version=0.0.4"), Not(HasSubstr("titan_loss")),
                            HasSubstr("\ntitan_run_info{run=\"llama3/\\\"debug\\\"\",digest=\"abc\"} 1\n")));
  const size_t body = answer.find("\r\n\r\n") + 4;
  EXPECT_THAT(answer, HasSubstr(absl::StrCat("Content-Length: ", answer.size() - body, "\r\n")));
}

TEST(PrometheusTest, ServesTheNewestMetrics) {
  const auto sink = Open();
  StepMetrics step;
  step.step = 6;
  step.loss = 7.5;
  ASSERT_TRUE(sink->Log(step).ok());
  step.step = 7;
  step.loss = 6.25;
  step.tokens_seen = 4096;
  step.bytes_sent = {{"fsdp", 128}, {"tp", 64}};
  ASSERT_TRUE(sink->Log(step).ok());
  EXPECT_THAT(Ask(*sink, kGet),
              AllOf(HasSubstr("# TYPE titan_loss gauge\ntitan_loss 6.25\n"), HasSubstr("\ntitan_step 7\n"),
                    HasSubstr("# TYPE titan_tokens_total counter\ntitan_tokens_total 4096\n"),
                    HasSubstr("titan_sent_bytes{axis=\"fsdp\"} 128\ntitan_sent_bytes{axis=\"tp\"} 64\n"),
                    Not(HasSubstr("titan_mfu")), Not(HasSubstr("titan_validation"))));
  ASSERT_TRUE(sink->LogValidation({.step = 7, .loss = 5.5}).ok());
  EXPECT_THAT(Ask(*sink, kGet),
              AllOf(HasSubstr("\ntitan_validation_loss 5.5\n"), HasSubstr("titan_validation_step 7")));
  step.loss = std::numeric_limits<double>::quiet_NaN();
  step.grad_norm = std::numeric_limits<double>::infinity();
  ASSERT_TRUE(sink->Log(step).ok());
  EXPECT_THAT(Ask(*sink, kGet), AllOf(HasSubstr("\ntitan_loss NaN\n"), HasSubstr("\ntitan_grad_norm +Inf\n")));
}

TEST(PrometheusTest, HasNothingElse) {
  const auto sink = Open();
  for (const char* request : {"GET / HTTP/1.1\r\n\r\n", "POST /metrics HTTP/1.1\r\n\r\n", "\r\n\r\n",
                              "GET /metricsandmore HTTP/1.1\r\n\r\n"}) {
    EXPECT_TRUE(absl::StartsWith(Ask(*sink, request), "HTTP/1.1 404 Not Found\r\n")) << request;
  }
  EXPECT_TRUE(absl::StartsWith(Ask(*sink, std::string(8192, 'x')), "HTTP/1.1 404 Not Found\r\n"));
}

// Who hangs up, or says nothing, neither ends the server nor holds up its end for long.
TEST(PrometheusTest, SurvivesWhoSaysNothing) {
  auto sink = Open();
  close(Connect(PortOf(sink->url())));
  EXPECT_THAT(Ask(*sink, kGet), HasSubstr("200 OK"));
  const int silent = Connect(PortOf(sink->url()));
  sink.reset();
  close(silent);
}

TEST(PrometheusTest, AnAddressThatIsTakenOrNoneIsAnError) {
  const auto sink = Open();
  const absl::Status taken = OpenPrometheus({.address = "127.0.0.1", .port = PortOf(sink->url())}).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(taken.message()), HasSubstr("metrics.prometheus_port: cannot bind 127.0.0.1:"));
  const absl::Status none = OpenPrometheus({.address = "localhost", .port = 0}).status();
  EXPECT_THAT(std::string(none.message()), HasSubstr("metrics.prometheus_address: \"localhost\" is no IPv4 address"));
}

}  // namespace
}  // namespace titan
