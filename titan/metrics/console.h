// Progress for a person: a header, a line every few steps in torchtitan's words, a summary. Colours on a terminal;
// plain lines without escapes elsewhere, so that logs stay readable and greppable.
//
//   Console console(std::cout, ConsoleOptions::ForStdout(experiment.metrics(), total_steps));
//   console.Header("llama3/debug", {{"model", "llama3 debugmodel, 6,163,712 parameters"}, {"digest", digest}});
//   console.Log(metrics);
//   // step:  10  loss:  6.91234  grad_norm:  1.2345  lr: 8.00e-04  memory:  0.61GiB  tps: 5,302  tflops: 0.38
//   //   mfu: N/A  left: 3m52s                                                     (one line)
//   console.LogValidation(validation);
//   // validate step:  10  loss:  6.95123  memory:  0.61GiB  tps: 15,210

#ifndef TITAN_METRICS_CONSOLE_H_
#define TITAN_METRICS_CONSOLE_H_

#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "titan/metrics/step_metrics.h"

namespace titan::config {
class Metrics;
}

namespace titan {

struct ConsoleOptions {
  int64_t log_freq = 10;
  int64_t total_steps = 0;            // of the run; for the time left
  int64_t memory_capacity_bytes = 0;  // of the device; 0 when not known: then no percentage
  bool color = false;

  // Coloured if standard output is a terminal, metrics.disable_color_printing is off and NO_COLOR is not set.
  static ConsoleOptions ForStdout(const config::Metrics& metrics, int64_t total_steps);
};

class Console : public MetricsSink {
 public:
  Console(std::ostream& out, ConsoleOptions options);

  // What runs, where: a title, then "label  value" lines.
  void Header(std::string_view title, const std::vector<std::pair<std::string, std::string>>& lines);
  // An event between steps, such as "checkpoint  outputs/.../step-100".
  void Note(std::string_view text);
  // A line at step 1, every log_freq-th step and the last one.
  absl::Status Log(const StepMetrics& metrics) override;
  // A line for each.
  absl::Status LogValidation(const ValidationMetrics& metrics) override;
  absl::Status Flush() override;
  // How it ended: steps, tokens, time, first and last loss of this session, then "label  value" lines (where the files
  // are). `ending` is "done", or why the run stopped.
  void Summary(std::string_view ending, const std::vector<std::pair<std::string, std::string>>& lines);

 private:
  void PrintFields(const std::vector<std::pair<std::string, std::string>>& lines);
  std::string Paint(const char* color, std::string text) const;

  std::ostream& out_;
  ConsoleOptions options_;
  StepWindow window_;
  int64_t steps_ = 0;
  int64_t tokens_ = 0;
  double seconds_ = 0;
  double first_loss_ = 0;
  double last_loss_ = 0;
};

}  // namespace titan

#endif  // TITAN_METRICS_CONSOLE_H_
