#include "tests/benchmarks/checkpoint_cost.h"

#include <cstddef>

namespace titan {
namespace {

class Mean {
 public:
  void Add(double value) {
    sum_ += value;
    ++count_;
  }
  double value() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  int64_t count() const { return count_; }

 private:
  double sum_ = 0;
  int64_t count_ = 0;
};

enum class During { kNoSave, kSave, kPartOfASave };

}  // namespace

CheckpointCost CostOf(const std::vector<StepMetrics>& steps, int64_t warmup) {
  CheckpointCost cost;
  Mean stall, write, writing, free, all;
  std::vector<During> during(steps.size(), During::kNoSave);
  const size_t none = steps.size();
  size_t begin = none;  // the step before which the save that is being written was begun
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].write_seconds > 0 && begin != none) {
      write.Add(steps[i].write_seconds);
      double passed = 0;
      for (size_t j = begin; j < i && passed < steps[i].write_seconds; ++j) {
        passed += steps[j].step_seconds - steps[j].checkpoint_seconds;
        during[j] = passed <= steps[i].write_seconds ? During::kSave : During::kPartOfASave;
      }
      begin = none;
    }
    if (steps[i].checkpoint_seconds > 0) {
      begin = i;
      if (cost.saves++ == 0) {
        cost.first_stall = steps[i].checkpoint_seconds;
      } else {
        stall.Add(steps[i].checkpoint_seconds);
      }
    }
  }
  // The last one may still be written when the steps end.
  for (size_t j = begin; j < steps.size(); ++j) during[j] = During::kPartOfASave;
  for (size_t i = static_cast<size_t>(warmup); i < steps.size(); ++i) {
    all.Add(steps[i].step_seconds);
    const double seconds = steps[i].step_seconds - steps[i].checkpoint_seconds;
    if (during[i] == During::kSave) writing.Add(seconds);
    if (during[i] == During::kNoSave) free.Add(seconds);
  }
  cost.stall = stall.value();
  cost.write = write.value();
  cost.writing_step = writing.value();
  cost.writing_steps = writing.count();
  cost.free_step = free.value();
  cost.free_steps = free.count();
  cost.step = all.value();
  return cost;
}

}  // namespace titan
