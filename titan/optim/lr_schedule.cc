#include "titan/optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

// Steps of the decay, as Python's round() counts them: a half goes to the even neighbour. So does nearbyint in the
// rounding mode that every C++ program starts in.
int64_t RoundHalfToEven(double value) { return static_cast<int64_t>(std::nearbyint(value)); }

}  // namespace

LrSchedule::LrSchedule(const config::LrScheduler& config, int64_t training_steps)
    : min_factor_(config.min_lr_factor()) {
  if (config.decay_type() == config::LrScheduler::DECAY_TYPE_SQRT) decay_ = Decay::kSqrt;
  if (config.decay_type() == config::LrScheduler::DECAY_TYPE_COSINE) decay_ = Decay::kCosine;
  const int64_t total = config.has_total_steps() ? config.total_steps() : training_steps;
  warmup_steps_ = std::min(config.warmup_steps(), total);
  decay_steps_ = total - warmup_steps_;
  if (config.has_decay_ratio()) {
    decay_steps_ = std::min(decay_steps_, RoundHalfToEven(static_cast<double>(total) * config.decay_ratio()));
  }
  stable_steps_ = total + 1 - warmup_steps_ - decay_steps_;
}

double LrSchedule::Factor(int64_t step) const {
  if (step < warmup_steps_) return static_cast<double>(step + 1) / static_cast<double>(warmup_steps_);
  const int64_t decayed = step + 1 - (warmup_steps_ + stable_steps_);
  if (decayed <= 0 || decay_steps_ == 0) return 1;
  const double p = std::min(1.0, static_cast<double>(decayed) / static_cast<double>(decay_steps_));
  const double x = decay_ == Decay::kLinear ? 1 - p
                   : decay_ == Decay::kSqrt ? 1 - std::sqrt(p)
                                            : 0.5 * (1 + std::cos(std::numbers::pi * p));
  return min_factor_ + (1 - min_factor_) * x;
}

}  // namespace titan
