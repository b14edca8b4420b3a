// The learning rate over a run: warmup, then constant, then decay. No LibTorch here.
//
//   const LrSchedule schedule(experiment.lr_scheduler(), experiment.training().steps());
//   const double lr = experiment.optimizer().lr() * schedule.Factor(step);  // step 0 is the first
//
// The formula and its rounding are those of torchtitan 0.2.2, `build_lr_schedulers` (components/lr_scheduler.py). Of T
// steps W warm up, D = round(T decay_ratio), or T - W when it is unset, decay, and the T + 1 - W - D between them are
// stable. W and D are cut so that W <= T and W + D <= T. The factor at 0-based step s is
//
//   (s + 1) / W                      while s < W
//   1                                while it is stable
//   min + (1 - min) x                then, with p = (s + 1 - (T + 1 - D)) / D and
//                                    x = 1 - p (linear), 1 - sqrt(p) (sqrt), (1 + cos(pi p)) / 2 (cosine)
//
// so that the last step's factor is not yet `min`: p is 1 at s = T, where the run has ended.

#ifndef TITAN_OPTIM_LR_SCHEDULE_H_
#define TITAN_OPTIM_LR_SCHEDULE_H_

#include <cstdint>

namespace titan::config {
class LrScheduler;
}

namespace titan {

class LrSchedule {
 public:
  // `training_steps` is the length of the schedule unless config.total_steps says another one.
  LrSchedule(const config::LrScheduler& config, int64_t training_steps);

  // Of the learning rate at 0-based `step`. Beyond the end of the schedule it stays at min_lr_factor if there is a
  // decay, at 1 otherwise.
  double Factor(int64_t step) const;

 private:
  enum class Decay { kLinear, kSqrt, kCosine };

  int64_t warmup_steps_;
  int64_t stable_steps_;
  int64_t decay_steps_;
  Decay decay_ = Decay::kLinear;
  double min_factor_;
};

}  // namespace titan

#endif  // TITAN_OPTIM_LR_SCHEDULE_H_
