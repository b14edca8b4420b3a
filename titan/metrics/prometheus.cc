#include "titan/metrics/prometheus.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/mutex.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

// No more of a request is read, and it is not waited for longer.
constexpr size_t kMaxRequestBytes = 8192;
constexpr timeval kPatience = {.tv_sec = 2, .tv_usec = 0};

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return absl::StrFormat("%.17g", value);
}

std::string Label(std::string_view name, std::string_view value) {
  return absl::StrCat(name, "=\"", absl::StrReplaceAll(value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}), "\"");
}

// A metric's lines in the text format.
class Page {
 public:
  void Add(std::string_view name, std::string_view type, std::string_view help, double value) {
    Describe(name, type, help);
    absl::StrAppend(&text_, name, " ", Number(value), "\n");
  }
  void Describe(std::string_view name, std::string_view type, std::string_view help) {
    absl::StrAppend(&text_, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
  }
  void AddLabelled(std::string_view name, std::string_view labels, double value) {
    absl::StrAppend(&text_, name, "{", labels, "} ", Number(value), "\n");
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

void AddStep(const StepMetrics& step, Page& page) {
  const auto gauge = [&](std::string_view name, std::string_view help, double value) {
    page.Add(name, "gauge", help, value);
  };
  gauge("titan_step", "The last step that was done.", static_cast<double>(step.step));
  gauge("titan_loss", "Mean cross-entropy over the valid tokens of the step.", step.loss);
  gauge("titan_grad_norm", "2-norm of all gradients before clipping.", step.grad_norm);
  gauge("titan_learning_rate", "Learning rate that the step used.", step.lr);
  page.Add("titan_tokens_total", "counter", "Tokens since the run's first step, over all ranks.",
           static_cast<double>(step.tokens_seen));
  gauge("titan_step_seconds", "Wall time of the step.", step.step_seconds);
  gauge("titan_data_seconds", "Of it, waiting for data.", step.data_seconds);
  gauge("titan_tokens_per_second", "Tokens per second and device.", step.tokens_per_second);
  gauge("titan_tflops", "Model TFLOP per second and device.", step.tflops);
  if (step.mfu > 0) gauge("titan_mfu_ratio", "Share of the accelerator's peak, 0 to 1.", step.mfu);
  gauge("titan_memory_bytes", "Peak memory of rank 0.", static_cast<double>(step.memory_bytes));
  if (step.bytes_sent.empty()) return;
  page.Describe("titan_sent_bytes", "gauge", "What rank 0 sent in the step, by axis of the mesh.");
  for (const auto& [axis, bytes] : step.bytes_sent) {
    page.AddLabelled("titan_sent_bytes", Label("axis", axis), static_cast<double>(bytes));
  }
}

class Server : public PrometheusSink {
 public:
  explicit Server(const PrometheusOptions& options)
      : info_(absl::StrCat(Label("run", options.run), ",", Label("digest", options.digest))) {}

  ~Server() override {
    const uint64_t one = 1;
    if (thread_.joinable() && write(wake_, &one, sizeof(one)) == sizeof(one)) thread_.join();
    if (listener_ >= 0) close(listener_);
    if (wake_ >= 0) close(wake_);
  }

  absl::Status Start(const PrometheusOptions& options) {
    const auto error = [&](std::string_view what) {
      return absl::UnavailableError(absl::StrCat("metrics.prometheus_port: cannot ", what, " ", options.address, ":",
                                                 options.port, ": ", std::strerror(errno),
                                                 "; choose another port, 0 for any that is free, or -1 for none"));
    };
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(options.port));
    if (inet_pton(AF_INET, options.address.c_str(), &address.sin_addr) != 1) {
      return absl::InvalidArgumentError(absl::StrCat("metrics.prometheus_address: \"", options.address,
                                                     "\" is no IPv4 address such as 127.0.0.1 or 0.0.0.0"));
    }
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    wake_ = eventfd(0, EFD_CLOEXEC);
    if (listener_ < 0 || wake_ < 0) return error("make a socket for");
    const int reuse = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return error("bind");
    if (listen(listener_, /*backlog=*/16) != 0) return error("listen on");
    socklen_t size = sizeof(address);
    if (getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) return error("ask for the port of");
    url_ = absl::StrCat("http://", options.address, ":", ntohs(address.sin_port), "/metrics");
    thread_ = std::thread([this] { Serve(); });
    return absl::OkStatus();
  }

  std::string url() const override { return url_; }

  absl::Status Log(const StepMetrics& metrics) override {
    absl::MutexLock lock(mutex_);
    step_ = metrics;
    return absl::OkStatus();
  }
  absl::Status LogValidation(const ValidationMetrics& metrics) override {
    absl::MutexLock lock(mutex_);
    validation_ = metrics;
    return absl::OkStatus();
  }
  absl::Status Flush() override { return absl::OkStatus(); }

 private:
  // The thread's body, until somebody writes to wake_.
  void Serve() {
    while (true) {
      pollfd events[] = {{.fd = listener_, .events = POLLIN, .revents = 0},
                         {.fd = wake_, .events = POLLIN, .revents = 0}};
      if (poll(events, 2, /*timeout=*/-1) < 0 && errno != EINTR) return;
      if (events[1].revents != 0) return;
      if ((events[0].revents & POLLIN) == 0) continue;
      const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) continue;
      setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience));
      setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof(kPatience));
      Answer(client);
      close(client);
    }
  }

  void Answer(int client) {
    std::string request;
    while (request.size() < kMaxRequestBytes && !absl::StrContains(request, "\r\n\r\n")) {
      char bytes[1024];
      const ssize_t count = recv(client, bytes, sizeof(bytes), 0);
      if (count <= 0) return;
      request.append(bytes, static_cast<size_t>(count));
    }
    const std::string_view line = std::string_view(request).substr(0, request.find("\r\n"));
    const bool asks = absl::StartsWith(line, "GET /metrics ") || absl::StartsWith(line, "GET /metrics?");
    const std::string body = asks ? Text() : "There is nothing here but GET /metrics.\n";
    std::string answer =
        absl::StrCat("HTTP/1.1 ", asks ? "200 OK" : "404 Not Found",
                     "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: ", body.size(),
                     "\r\nConnection: close\r\n\r\n", body);
    for (std::string_view rest = answer; !rest.empty();) {
      const ssize_t count = send(client, rest.data(), rest.size(), MSG_NOSIGNAL);
      if (count <= 0) return;
      rest.remove_prefix(static_cast<size_t>(count));
    }
  }

  std::string Text() {
    Page page;
    page.Describe("titan_run_info", "gauge", "The run.");
    page.AddLabelled("titan_run_info", info_, 1);
    absl::MutexLock lock(mutex_);
    if (step_.has_value()) AddStep(*step_, page);
    if (validation_.has_value()) {
      page.Add("titan_validation_step", "gauge", "The step after which validation was last run.",
               static_cast<double>(validation_->step));
      page.Add("titan_validation_loss", "gauge", "Mean cross-entropy over the labels of that validation.",
               validation_->loss);
    }
    return page.Take();
  }

  const std::string info_;
  std::string url_;
  int listener_ = -1;
  int wake_ = -1;  // readable once the thread shall end
  std::thread thread_;
  absl::Mutex mutex_;
  std::optional<StepMetrics> step_ ABSL_GUARDED_BY(mutex_);
  std::optional<ValidationMetrics> validation_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<PrometheusSink>> OpenPrometheus(const PrometheusOptions& options) {
  auto server = std::make_unique<Server>(options);
  TITAN_RETURN_IF_ERROR(server->Start(options));
  return server;
}

}  // namespace titan
