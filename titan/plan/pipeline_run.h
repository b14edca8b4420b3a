// Running a pipeline schedule without computing anything: what CheckPipelineSchedule and SimulatePipeline share.
//
//   const PipelineActionIndex index(schedule);
//   const PipelineTimes times = RunUntilStuck(schedule, index, costs);
//   times[2].size() < schedule.actions[2].size();  // rank 2 waits forever before schedule.actions[2][times[2].size()]

#ifndef TITAN_PLAN_PIPELINE_RUN_H_
#define TITAN_PLAN_PIPELINE_RUN_H_

#include <array>
#include <cstdint>
#include <vector>

#include "titan/plan/pipeline_schedule.h"
#include "titan/plan/pipeline_timeline.h"

namespace titan {

// Where the actions of a schedule are. All stages and microbatches must be in range. Of two equal actions the last is
// found.
class PipelineActionIndex {
 public:
  struct Place {
    int64_t rank = -1;  // -1: there is no such action
    int64_t position = -1;

    bool found() const { return rank >= 0; }
  };

  explicit PipelineActionIndex(const PipelineSchedule& schedule);

  // What must have ended before `action` starts, at most two:
  //   forward           the forward of the stage before
  //   backward, input   its own forward, and the backward (full or input) of the stage behind
  //   weight            its own input gradients
  std::array<Place, 2> Needs(const PipelineAction& action) const;

 private:
  struct Entry {
    Place forward;
    Place input;  // full backward or input gradients
  };

  const Entry& At(int64_t stage, int64_t microbatch) const { return entries_[stage * num_microbatches_ + microbatch]; }

  int64_t num_stages_;
  int64_t num_microbatches_;
  std::vector<Entry> entries_;  // (num_stages, num_microbatches)
};

using PipelineTimes = std::vector<std::vector<PipelineTimeline::Interval>>;

// The times of what runs when each rank takes its actions in order and waits for what an action needs, until all is
// done or all ranks wait.
PipelineTimes RunUntilStuck(const PipelineSchedule& schedule, const PipelineActionIndex& index,
                            const PipelineCosts& costs);

}  // namespace titan

#endif  // TITAN_PLAN_PIPELINE_RUN_H_
