#include "titan/plan/host_memory.h"

#include <algorithm>
#include <bit>

#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

int64_t Pinned(int64_t bytes) {
  return bytes == 0 ? 0 : static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(bytes)));
}

int64_t ComputeBytes(const config::Experiment& experiment) {
  return experiment.training().mixed_precision_param() == config::Training::DTYPE_BFLOAT16 ? 2 : 4;
}

// The averages of one unit, a tensor each: that of all elements, and that of squares, which Muon has not.
struct Averages {
  int64_t first;
  int64_t second;
};

Averages AveragesOf(const config::Experiment& experiment, const plan::Block& block) {
  const bool small = experiment.optimizer().state_in_bfloat16();
  const int64_t first = small ? block.rank().weights() / 2 : block.rank().weights();
  return {first, block.rank().optimizer_state() - first};
}

// Masters and optimizer state are read and written by the host alone; gradients and compute copies travel.
void AddStates(const config::Experiment& experiment, const plan::Block& block, plan::HostMemory& host) {
  const plan::Bytes& rank = block.rank();
  const int64_t computed = block.parameters_per_rank() * ComputeBytes(experiment);
  const bool is_master = computed == rank.weights();  // the same dtype, the same tensor
  const int64_t pinned = Pinned(rank.gradients()) + Pinned(computed);
  const int64_t pageable = rank.optimizer_state() + (is_master ? 0 : rank.weights());
  host.set_states(host.states() + pinned + pageable);
  host.set_pinned_bytes(host.pinned_bytes() + pinned);
}

// Weights and averages. Those of offloaded states are copied from memory of the host to memory of the host.
void AddCheckpoint(const config::Experiment& experiment, const plan::Block& block, bool offloaded,
                   plan::HostMemory& host) {
  const bool is_pinned =
      experiment.checkpoint().async_mode() == config::Checkpoint::ASYNC_MODE_ASYNC_WITH_PINNED_MEM && !offloaded;
  const Averages averages = AveragesOf(experiment, block);
  for (const int64_t bytes : {block.rank().weights(), averages.first, averages.second}) {
    host.set_checkpoint(host.checkpoint() + (is_pinned ? Pinned(bytes) : bytes));
    if (is_pinned) host.set_pinned_bytes(host.pinned_bytes() + Pinned(bytes));
  }
}

bool CopiesCheckpoints(const config::Checkpoint& checkpoint) {
  return checkpoint.enable() && !checkpoint.load_only() &&
         checkpoint.async_mode() != config::Checkpoint::ASYNC_MODE_DISABLED;
}

}  // namespace

std::vector<int64_t> OffloadedTensors(const config::Experiment& experiment, const plan::Mesh& mesh, int64_t min_bytes) {
  const config::Model& model = experiment.model();
  const int64_t element = ComputeBytes(experiment), tp = mesh.tp();
  const int64_t tokens = experiment.training().local_batch_size() * experiment.training().seq_len() / mesh.cp();
  const int64_t own_tokens = experiment.parallelism().enable_sequence_parallel() ? tokens / tp : tokens;
  const int64_t heads = model.n_heads() / tp, kv_heads = model.n_kv_heads() / tp, ffn = model.ffn_hidden_dim() / tp;
  const int64_t normed = tokens * model.dim() * element, sum = own_tokens * model.dim() * element;
  const int64_t queries = tokens * heads * model.head_dim() * element;
  const int64_t keys = tokens * kv_heads * model.head_dim() * element;
  const int64_t hidden = tokens * ffn * element;
  const int64_t per_head = tokens * heads * 4, per_token = own_tokens * 4;  // float32: log-sum-exp, inverse rms
  std::vector<int64_t> tensors = {normed, normed, sum,    queries,  queries,   keys,     keys,
                                  hidden, hidden, hidden, per_head, per_token, per_token};
  std::erase_if(tensors, [&](int64_t bytes) { return bytes < min_bytes; });
  return tensors;
}

plan::HostMemory PlanHostMemory(const config::Experiment& experiment, const plan::Plan& plan,
                                const std::vector<int64_t>& pipeline_ranks) {
  plan::HostMemory most;
  if (experiment.cluster().accelerator() == config::Cluster::ACCELERATOR_CPU) return most;
  const bool offloaded = plan.memory().offloaded();
  // Replicas share the writing of a checkpoint, unit by unit; of the rest all have the same.
  const int64_t replicas = CopiesCheckpoints(experiment.checkpoint()) ? plan.mesh().dp_replicate() : 1;
  std::vector<plan::HostMemory> ranks(plan.mesh().pp() * replicas);
  std::vector<int64_t> units(plan.mesh().pp(), 0);
  for (int i = 0; i < plan.blocks_size(); ++i) {
    const int64_t pp = pipeline_ranks[i], writer = units[pp]++ % replicas;
    for (int64_t replica = 0; replica < replicas; ++replica) {
      plan::HostMemory& host = ranks[pp * replicas + replica];
      if (offloaded) AddStates(experiment, plan.blocks(i), host);
      if (replica == writer && CopiesCheckpoints(experiment.checkpoint())) {
        AddCheckpoint(experiment, plan.blocks(i), offloaded, host);
      }
    }
  }
  for (plan::HostMemory& host : ranks) {
    if (const int64_t layers = experiment.activation_checkpoint().offload_layers(); layers > 0) {
      for (const int64_t bytes : OffloadedTensors(experiment, plan.mesh())) {
        host.set_activations(host.activations() + layers * Pinned(bytes));
      }
      host.set_pinned_bytes(host.pinned_bytes() + host.activations());
    }
    host.set_rank_bytes(host.states() + host.activations() + host.checkpoint());
    if (host.rank_bytes() > most.rank_bytes()) most = host;
  }
  most.set_node_bytes(most.rank_bytes() * plan.cluster().devices_per_node());
  return most;
}

}  // namespace titan
