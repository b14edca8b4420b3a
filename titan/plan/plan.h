// What an experiment costs before it runs: parameters, bytes per rank, tokens and FLOPs per step; and whether it can
// run at all on the cluster that it names. No LibTorch: a 405B plan takes milliseconds.
//
//   absl::StatusOr<plan::Plan> plan = BuildPlan(experiment, "llama3/8b");
//   std::cout << PlanText(*plan);

#ifndef TITAN_PLAN_PLAN_H_
#define TITAN_PLAN_PLAN_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "titan/plan/plan.pb.h"

namespace titan::config {
class Experiment;
}

namespace titan {

// `experiment` passed the strict reader. InvalidArgument holds every reason why it cannot run on its cluster, one per
// line, each with field, value and what to do: mesh and batch that do not divide, memory that does not suffice, a
// pipeline schedule that cannot run. `pipeline_schedule_csv`: what the file in
// parallelism.pipeline_parallel_schedule_csv holds, if there is one.
absl::StatusOr<plan::Plan> BuildPlan(const config::Experiment& experiment, std::string_view name,
                                     std::string_view pipeline_schedule_csv = "");

// The same bytes for equal plans, in every build.
std::string CanonicalBytes(const plan::Plan& plan);

std::string PlanText(const plan::Plan& plan);  // aligned tables for a terminal
std::string PlanJson(const plan::Plan& plan);  // the fields of plan.proto by their names, integers as numbers
std::string PlanHtml(const plan::Plan& plan);  // one page, nothing loaded from elsewhere

}  // namespace titan

#endif  // TITAN_PLAN_PLAN_H_
