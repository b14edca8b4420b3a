// When each action of a pipeline schedule runs, how long the ranks wait, and how many activations they hold.
//
//   const PipelineTimeline timeline = SimulatePipeline(schedule, PipelineCosts{});  // a backward takes two forwards
//   timeline.bubble_share;        // 3/11 for 1F1B with 4 ranks and 8 microbatches
//   timeline.peak_activations[0]; // 4
//   PipelinePicture(schedule, timeline);  // rank 0  F0F1F2F3............B0--F4B1--...

#ifndef TITAN_PLAN_PIPELINE_TIMELINE_H_
#define TITAN_PLAN_PIPELINE_TIMELINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "titan/plan/pipeline_schedule.h"

namespace titan {

// How long one action of one stage takes, in any unit. A full backward takes backward_input + backward_weight. A
// message to another rank arrives `send` after the end of the action that made it, and keeps neither rank busy.
struct PipelineCosts {
  double forward = 1;
  double backward_input = 1;
  double backward_weight = 1;
  double send = 0;
};

struct PipelineTimeline {
  struct Interval {
    double start = 0;
    double end = 0;
  };

  std::vector<std::vector<Interval>> times;  // of each rank's actions, in their order
  double duration = 0;                       // until the last rank has finished
  double bubble_share = 0;                   // idle time / (ranks * duration)
  // The most forwards of a rank (one of a stage and a microbatch each) whose backward, weight gradients included, has
  // not run yet.
  std::vector<int64_t> peak_activations;
};

// Each rank runs its actions in order, each as soon as what it needs is there. `schedule` must be one that
// CheckPipelineSchedule accepts.
PipelineTimeline SimulatePipeline(const PipelineSchedule& schedule, const PipelineCosts& costs);

// A line per rank, time from left to right: "F0" is a forward of microbatch 0, B, I and W as in a CSV; lower case for
// the rank's second stage, and with more stages than that the stage's number in front. "-" is a longer action going on,
// "." idle. One cell is as long as the shortest action.
std::string PipelinePicture(const PipelineSchedule& schedule, const PipelineTimeline& timeline);

}  // namespace titan

#endif  // TITAN_PLAN_PIPELINE_TIMELINE_H_
