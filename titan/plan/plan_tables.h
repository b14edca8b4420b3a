// What the text and the HTML form of a plan share: layers that cost the same, said once.

#ifndef TITAN_PLAN_PLAN_TABLES_H_
#define TITAN_PLAN_PLAN_TABLES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "titan/plan/plan.pb.h"

namespace titan {

// Consecutive blocks of equal cost.
struct BlockGroup {
  std::string name;  // "layers.0 to 31, each"
  int64_t count;
  const plan::Block* block;  // any of them
};
std::vector<BlockGroup> GroupBlocks(const plan::Plan& plan);

// Sentences on the plan's parts, in order: {"Mesh", "dp_shard 8 = 8 ranks ..."}.
struct PlanFact {
  std::string name;
  std::string value;
};
std::vector<PlanFact> PlanFacts(const plan::Plan& plan);

// Lines of the sum that decides whether the experiment fits.
std::vector<PlanFact> MemorySum(const plan::Plan& plan);

// What lies in the memory of the host; empty if nothing does.
std::vector<PlanFact> HostMemorySum(const plan::Plan& plan);

// "llama3 8B: 8,030,261,248 parameters on 1 node x 8 h100".
std::string PlanSubtitle(const plan::Plan& plan);

}  // namespace titan

#endif  // TITAN_PLAN_PLAN_TABLES_H_
