#include "titan/metrics/step_metrics.h"

namespace titan {

bool StepWindow::IsLogStep(int64_t step) const { return step == 1 || step % log_freq_ == 0 || step == total_steps_; }

void StepWindow::Add(const StepMetrics& metrics) {
  const StepMetrics before = sum_;
  sum_ = metrics;
  ++count_;
  sum_.tokens += before.tokens;
  sum_.step_seconds += before.step_seconds;
  sum_.data_seconds += before.data_seconds;
  sum_.tokens_per_second = before.tokens_per_second + metrics.tokens_per_second * metrics.step_seconds;
  sum_.tflops = before.tflops + metrics.tflops * metrics.step_seconds;
  sum_.mfu = before.mfu + metrics.mfu * metrics.step_seconds;
}

StepMetrics StepWindow::Take() {
  StepMetrics mean = sum_;
  if (sum_.step_seconds > 0) {
    mean.tokens_per_second /= sum_.step_seconds;
    mean.tflops /= sum_.step_seconds;
    mean.mfu /= sum_.step_seconds;
  }
  if (count_ > 0) {
    mean.step_seconds /= static_cast<double>(count_);
    mean.data_seconds /= static_cast<double>(count_);
  }
  sum_ = StepMetrics();
  count_ = 0;
  return mean;
}

}  // namespace titan
