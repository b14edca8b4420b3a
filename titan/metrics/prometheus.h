// The newest metrics of a run for a Prometheus server that asks: an HTTP server that answers GET /metrics in the text
// format 0.0.4. README.md lists the names.
//
//   TITAN_ASSIGN_OR_RETURN(auto sink, OpenPrometheus({.address = "127.0.0.1", .port = 9464, .run = "llama3/debug"}));
//   $ curl http://127.0.0.1:9464/metrics

#ifndef TITAN_METRICS_PROMETHEUS_H_
#define TITAN_METRICS_PROMETHEUS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "titan/metrics/step_metrics.h"

namespace titan {

struct PrometheusOptions {
  std::string address = "127.0.0.1";  // IPv4; 0.0.0.0 lets other machines ask
  int64_t port = 0;                   // 0: any that is free
  // Labels of titan_run_info.
  std::string run = {};
  std::string digest = {};
};

// A sink that serves what it was last told, from a thread of its own, until it is destroyed. One request at a time.
class PrometheusSink : public MetricsSink {
 public:
  // "http://127.0.0.1:9464/metrics".
  virtual std::string url() const = 0;
};

// Unavailable if the address cannot be taken.
absl::StatusOr<std::unique_ptr<PrometheusSink>> OpenPrometheus(const PrometheusOptions& options);

}  // namespace titan

#endif  // TITAN_METRICS_PROMETHEUS_H_
