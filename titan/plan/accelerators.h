// What an accelerator can do at most: one table for the plan's checks and the trainer's MFU.
//
//   const AcceleratorFacts& facts = FactsOf(experiment.cluster().accelerator());
//   const double mfu = model_flops_per_second / facts.peak_flops;  // when peak_flops is known

#ifndef TITAN_PLAN_ACCELERATORS_H_
#define TITAN_PLAN_ACCELERATORS_H_

#include <cstdint>

namespace titan::config {
enum Cluster_Accelerator : int;  // config::Cluster::Accelerator; the generated header is expensive
}

namespace titan {

struct AcceleratorFacts {
  const char* name;      // as in a configuration: "h100"
  double peak_flops;     // dense bf16, floating point operations per second; 0 when not known (cpu)
  int64_t memory_bytes;  // that a process can use; 0 for no limit (cpu)
};

const AcceleratorFacts& FactsOf(config::Cluster_Accelerator accelerator);

}  // namespace titan

#endif  // TITAN_PLAN_ACCELERATORS_H_
