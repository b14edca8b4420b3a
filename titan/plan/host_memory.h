// What a rank on a GPU puts into the memory of its host: offloaded states, offloaded activations, and the copy of a
// checkpoint that is still being written.
//
//   plan::HostMemory host = PlanHostMemory(experiment, plan, pipeline_ranks);  // nothing is put there: all fields are
//   0
//
// Pinned memory comes from LibTorch's allocator, which rounds every tensor up to a power of two bytes and keeps it.

#ifndef TITAN_PLAN_HOST_MEMORY_H_
#define TITAN_PLAN_HOST_MEMORY_H_

#include <cstdint>
#include <vector>

#include "titan/plan/plan.pb.h"

namespace titan::config {
class Experiment;
}

namespace titan {

// Bytes of each tensor that a layer of one microbatch puts away (activation_checkpoint.offload_layers): what its norms
// give, queries, keys, values, attention's output, the residual sum, gate, up and their product, and numbers for each
// head and token. With float8 there is less; what context parallelism keeps besides is not counted. Of `mesh`, cp and
// tp count. Tensors below `min_bytes` stay.
std::vector<int64_t> OffloadedTensors(const config::Experiment& experiment, const plan::Mesh& mesh,
                                      int64_t min_bytes = 64 << 10);

// Reads blocks, mesh, cluster and whether states are offloaded from `plan`. `pipeline_ranks`: of each block the rank of
// the pipeline that has it.
plan::HostMemory PlanHostMemory(const config::Experiment& experiment, const plan::Plan& plan,
                                const std::vector<int64_t>& pipeline_ranks);

}  // namespace titan

#endif  // TITAN_PLAN_HOST_MEMORY_H_
