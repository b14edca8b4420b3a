#include "titan/plan/pipeline_timeline.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "absl/log/check.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "titan/plan/pipeline_run.h"

namespace titan {
namespace {

int64_t PeakActivations(const std::vector<PipelineAction>& actions) {
  int64_t alive = 0;
  int64_t peak = 0;
  for (const PipelineAction& action : actions) {
    if (action.op == PipelineOp::kForward) ++alive;
    if (action.op == PipelineOp::kBackward || action.op == PipelineOp::kBackwardWeight) --alive;
    peak = std::max(peak, alive);
  }
  return peak;
}

// How an action is written in a picture: `place` is that of its stage on the rank, of `stages` there.
std::string Label(const PipelineAction& action, int64_t place, size_t stages) {
  if (stages > 2) return ToString(action);
  const std::string_view letters = "FBIW";  // in the order of PipelineOp
  const char letter = letters[static_cast<size_t>(action.op)];
  return absl::StrCat(std::string(1, place == 0 ? letter : absl::ascii_tolower(letter)), action.microbatch);
}

}  // namespace

PipelineTimeline SimulatePipeline(const PipelineSchedule& schedule, const PipelineCosts& costs) {
  PipelineTimeline timeline;
  timeline.times = RunUntilStuck(schedule, PipelineActionIndex(schedule), costs);
  double busy = 0;
  for (int64_t rank = 0; rank < schedule.num_ranks; ++rank) {
    CHECK_EQ(timeline.times[rank].size(), schedule.actions[rank].size()) << "rank " << rank << " waits forever";
    for (const PipelineTimeline::Interval& interval : timeline.times[rank]) {
      busy += interval.end - interval.start;
      timeline.duration = std::max(timeline.duration, interval.end);
    }
    timeline.peak_activations.push_back(PeakActivations(schedule.actions[rank]));
  }
  const double total = static_cast<double>(schedule.num_ranks) * timeline.duration;
  timeline.bubble_share = total > 0 ? (total - busy) / total : 0;
  return timeline;
}

std::string PipelinePicture(const PipelineSchedule& schedule, const PipelineTimeline& timeline) {
  double unit = timeline.duration;
  size_t width = 0;
  std::vector<std::vector<std::string>> labels(schedule.num_ranks);
  for (int64_t rank = 0; rank < schedule.num_ranks; ++rank) {
    std::vector<int64_t> stages;
    for (int64_t stage = 0; stage < schedule.num_stages; ++stage) {
      if (schedule.rank_of_stage[stage] == rank) stages.push_back(stage);
    }
    for (size_t i = 0; i < schedule.actions[rank].size(); ++i) {
      const PipelineAction& action = schedule.actions[rank][i];
      const int64_t place = std::find(stages.begin(), stages.end(), action.stage) - stages.begin();
      labels[rank].push_back(Label(action, place, stages.size()));
      width = std::max(width, labels[rank].back().size());
      const auto& [start, end] = timeline.times[rank][i];
      if (end > start) unit = std::min(unit, end - start);
    }
  }
  const auto column = [&](double time) { return static_cast<size_t>(std::llround(time / unit)) * width; };
  std::string picture;
  for (int64_t rank = 0; rank < schedule.num_ranks; ++rank) {
    std::string line(column(timeline.duration), '.');
    for (size_t i = 0; i < labels[rank].size(); ++i) {
      const auto& [start, end] = timeline.times[rank][i];
      std::string text = labels[rank][i];
      text.resize(std::max(column(end) - column(start), width), '-');
      line.replace(column(start), text.size(), text);
    }
    absl::StrAppend(&picture, "rank ", rank, schedule.num_ranks > 10 && rank < 10 ? "   " : "  ", line, "\n");
  }
  return picture;
}

}  // namespace titan
