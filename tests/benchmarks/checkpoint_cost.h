// What saving costs a run, from its metrics.

#ifndef TITAN_TESTS_BENCHMARKS_CHECKPOINT_COST_H_
#define TITAN_TESTS_BENCHMARKS_CHECKPOINT_COST_H_

#include <cstdint>
#include <vector>

#include "titan/metrics/step_metrics.h"

namespace titan {

// Times are in seconds, and means unless said otherwise; 0 if there is nothing to take a mean of.
struct CheckpointCost {
  int64_t saves = 0;          // that were begun
  double first_stall = 0;     // of the first save
  double stall = 0;           // of the later ones
  double write = 0;           // of a save
  double writing_step = 0;    // a step, all of which passed while a save was written, without its stall
  double free_step = 0;       // a step, all of which passed while none was
  int64_t writing_steps = 0;  // how many there were
  int64_t free_steps = 0;
  double step = 0;  // any step, stalls included

  // By how much writing slows a step down; 0.02 is 2 %.
  double slow_down() const { return writing_step > 0 && free_step > 0 ? writing_step / free_step - 1 : 0; }
};

// Of the steps after the first `warmup`; but of all saves.
CheckpointCost CostOf(const std::vector<StepMetrics>& steps, int64_t warmup);

}  // namespace titan

#endif  // TITAN_TESTS_BENCHMARKS_CHECKPOINT_COST_H_
