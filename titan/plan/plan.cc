#include "titan/plan/plan.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "titan/base/quantities.h"
#include "titan/base/status_macros.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/options.pb.h"
#include "titan/plan/accelerators.h"
#include "titan/plan/host_memory.h"
#include "titan/plan/model_spec.h"
#include "titan/plan/param_groups.h"
#include "titan/plan/pipeline_plan.h"
#include "titan/plan/unit_layout.h"

namespace titan {
namespace {

using Reasons = std::vector<std::string>;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

plan::Cluster PlanCluster(const config::Cluster& cluster) {
  const AcceleratorFacts& facts = FactsOf(cluster.accelerator());
  plan::Cluster result;
  result.set_accelerator(facts.name);
  result.set_num_nodes(cluster.num_nodes());
  result.set_devices_per_node(cluster.devices_per_node());
  if (cluster.has_memory_gib() && cluster.memory_gib() > 0) {
    result.set_memory_bytes(static_cast<int64_t>(cluster.memory_gib() * kBytesPerGib));
  } else if (facts.memory_bytes > 0) {
    result.set_memory_bytes(facts.memory_bytes);
  }
  if (facts.peak_flops > 0) result.set_peak_flops(facts.peak_flops);
  return result;
}

// The degrees of parallelism, dp_shard worked out. Adds to `reasons` if their product cannot be the number of devices.
plan::Mesh PlanMesh(const config::Parallelism& parallelism, const plan::Cluster& cluster, Reasons& reasons) {
  plan::Mesh mesh;
  mesh.set_pp(parallelism.pipeline_parallel_degree());
  mesh.set_dp_replicate(parallelism.data_parallel_replicate_degree());
  mesh.set_cp(parallelism.context_parallel_degree());
  mesh.set_tp(parallelism.tensor_parallel_degree());
  mesh.set_world_size(cluster.num_nodes() * cluster.devices_per_node());
  const int64_t others = mesh.pp() * mesh.dp_replicate() * mesh.cp() * mesh.tp();
  const int64_t shard = parallelism.data_parallel_shard_degree();
  mesh.set_dp_shard(shard == -1 ? std::max<int64_t>(1, mesh.world_size() / others) : shard);
  mesh.set_fsdp_degree(mesh.dp_shard() * mesh.cp());

  const int64_t product = others * mesh.dp_shard();
  if (product != mesh.world_size()) {
    reasons.push_back(absl::StrCat(
        "parallelism: pp ", mesh.pp(), " x dp_replicate ", mesh.dp_replicate(), " x dp_shard ", mesh.dp_shard(),
        " x cp ", mesh.cp(), " x tp ", mesh.tp(), " = ", product, " ranks, but cluster.num_nodes ", cluster.num_nodes(),
        " x cluster.devices_per_node ", cluster.devices_per_node(), " = ", mesh.world_size(),
        " devices; make them equal, or set parallelism.data_parallel_shard_degree to -1 and let the others divide ",
        mesh.world_size()));
  }
  return mesh;
}

plan::Batch PlanBatch(const config::Training& training, const plan::Mesh& mesh, Reasons& reasons) {
  plan::Batch batch;
  batch.set_seq_len(training.seq_len());
  batch.set_local_batch_size(training.local_batch_size());
  const int64_t sequences_per_pass = training.local_batch_size() * mesh.dp_replicate() * mesh.dp_shard();
  const int64_t global = training.global_batch_size() == -1 ? sequences_per_pass : training.global_batch_size();
  if (global % sequences_per_pass != 0) {
    const int64_t below = global / sequences_per_pass * sequences_per_pass;
    reasons.push_back(absl::StrCat("training.global_batch_size: ", global, " is not a multiple of ", sequences_per_pass,
                                   " sequences, what one pass takes (local_batch_size ", training.local_batch_size(),
                                   " x ", mesh.dp_replicate() * mesh.dp_shard(), " data-parallel ranks); use ",
                                   below > 0 ? absl::StrCat(below, " or ") : "", below + sequences_per_pass));
  }
  batch.set_global_batch_size(global);
  batch.set_gradient_accumulation_steps(std::max<int64_t>(1, global / sequences_per_pass));
  batch.set_tokens_per_step(global * training.seq_len());
  batch.set_steps(training.steps());
  batch.set_total_tokens(batch.tokens_per_step() * training.steps());
  return batch;
}

plan::Compute PlanCompute(double flops_per_token, const plan::Batch& batch, const plan::Cluster& cluster) {
  plan::Compute compute;
  compute.set_flops_per_token(flops_per_token);
  compute.set_flops_per_step(flops_per_token * static_cast<double>(batch.tokens_per_step()));
  compute.set_total_flops(flops_per_token * static_cast<double>(batch.total_tokens()));
  if (cluster.has_peak_flops()) {
    const double peak = cluster.peak_flops() * static_cast<double>(cluster.num_nodes()) *
                        static_cast<double>(cluster.devices_per_node());
    compute.set_min_seconds_per_step(compute.flops_per_step() / peak);
    compute.set_min_total_seconds(compute.total_flops() / peak);
  }
  return compute;
}

struct ElementSizes {
  int64_t weight;
  int64_t gradient;
  int64_t average;   // of the optimizer: AdamW has two for each element, Muon one
  int64_t gathered;  // in the compute dtype; 0 if the weights serve as they are
};

int64_t BytesOf(config::Training::Dtype dtype) { return dtype == config::Training::DTYPE_BFLOAT16 ? 2 : 4; }
const char* NameOfDtype(config::Training::Dtype dtype) {
  return dtype == config::Training::DTYPE_BFLOAT16 ? "bfloat16" : "float32";
}

// On the CPU there is only one memory.
bool Offloads(const config::Experiment& experiment) {
  return experiment.training().enable_cpu_offload() &&
         experiment.cluster().accelerator() != config::Cluster::ACCELERATOR_CPU;
}

ElementSizes SizesOf(const config::Experiment& experiment, const plan::Mesh& mesh) {
  const config::Training& training = experiment.training();
  const int64_t state = BytesOf(training.dtype());
  const int64_t average = experiment.optimizer().state_in_bfloat16() ? 2 : state;
  const bool gathers =
      mesh.fsdp_degree() > 1 || training.mixed_precision_param() != training.dtype() || Offloads(experiment);
  return {.weight = state,
          .gradient = state,
          .average = average,
          .gathered = gathers ? BytesOf(training.mixed_precision_param()) : 0};
}

// Of `elements`, `squares` have a second average.
plan::Bytes BytesOfElements(int64_t elements, int64_t squares, int64_t gathered_elements, const ElementSizes& sizes) {
  plan::Bytes bytes;
  bytes.set_weights(elements * sizes.weight);
  bytes.set_gradients(elements * sizes.gradient);
  bytes.set_optimizer_state((elements + squares) * sizes.average);
  bytes.set_states(bytes.weights() + bytes.gradients() + bytes.optimizer_state());
  bytes.set_gathered_weights(gathered_elements * sizes.gathered);
  return bytes;
}

// Of the whole block, and of the rank that holds most of it.
struct Squares {
  int64_t whole = 0;
  int64_t rank = 0;
};

Squares CountSquares(const BlockSpec& spec, const UnitLayout& layout, const ParamGroups& groups, int64_t num_ranks) {
  Squares squares;
  for (const ParameterSpec& parameter : spec.parameters) {
    if (!groups.Of(parameter.name).is_muon) squares.whole += parameter.num_elements();
  }
  if (squares.whole == 0) return squares;
  for (int64_t rank = 0; rank < num_ranks && squares.rank < layout.shard_size; ++rank) {
    squares.rank = std::max(squares.rank, NumSquares(spec, layout, groups, rank));
  }
  return squares;
}

absl::StatusOr<plan::Block> PlanBlock(const BlockSpec& spec, int64_t shared_elements, const ParamGroups& groups,
                                      const plan::Mesh& mesh, const ElementSizes& sizes) {
  plan::Block block;
  block.set_name(spec.name);
  block.set_parameters(spec.num_parameters());
  TITAN_ASSIGN_OR_RETURN(const UnitLayout layout, LayOutUnit(spec, mesh.tp(), mesh.fsdp_degree()));
  block.set_parameters_per_rank(layout.shard_size);
  const Squares squares = CountSquares(spec, layout, groups, mesh.fsdp_degree());
  *block.mutable_whole() =
      BytesOfElements(block.parameters(), squares.whole, block.parameters() + shared_elements, sizes);
  *block.mutable_rank() = BytesOfElements(layout.shard_size, squares.rank,
                                          layout.shard_size * mesh.fsdp_degree() + shared_elements / mesh.tp(), sizes);
  return block;
}

void AddStates(const plan::Bytes& bytes, plan::Bytes& sum) {
  sum.set_weights(sum.weights() + bytes.weights());
  sum.set_gradients(sum.gradients() + bytes.gradients());
  sum.set_optimizer_state(sum.optimizer_state() + bytes.optimizer_state());
  sum.set_states(sum.states() + bytes.states());
}

// The rank of the pipeline that has each block.
absl::StatusOr<std::vector<int64_t>> PipelineRanks(const config::Experiment& experiment, const ModelSpec& spec,
                                                   std::string_view schedule_csv) {
  std::vector<int64_t> ranks(spec.blocks.size(), 0);
  if (experiment.parallelism().pipeline_parallel_degree() == 1) return ranks;
  TITAN_ASSIGN_OR_RETURN(const PipelinePlan pipeline, PlanPipeline(experiment, spec, schedule_csv));
  for (size_t stage = 0; stage < pipeline.stages.size(); ++stage) {
    std::fill(ranks.begin() + pipeline.stages[stage].begin, ranks.begin() + pipeline.stages[stage].end,
              pipeline.schedule.rank_of_stage[stage]);
  }
  return ranks;
}

absl::Status PlanBlocks(const ModelSpec& spec, const ParamGroups& groups, const std::vector<int64_t>& pipeline_ranks,
                        const ElementSizes& sizes, plan::Plan& plan) {
  plan::Memory& memory = *plan.mutable_memory();
  std::vector<plan::Bytes> ranks(plan.mesh().pp());
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const BlockSpec& block_spec = spec.blocks[i];
    // The only parameter that blocks share is the embedding, in a tied head.
    const int64_t shared = block_spec.shared_parameters.empty() ? 0 : spec.num_embedding_parameters();
    TITAN_ASSIGN_OR_RETURN(const plan::Block block, PlanBlock(block_spec, shared, groups, plan.mesh(), sizes));
    AddStates(block.whole(), *memory.mutable_whole());
    AddStates(block.rank(), ranks[pipeline_ranks[i]]);
    if (memory.largest_unit().empty() || block.rank().gathered_weights() > memory.rank().gathered_weights()) {
      memory.mutable_rank()->set_gathered_weights(block.rank().gathered_weights());
      memory.mutable_whole()->set_gathered_weights(block.whole().gathered_weights());
      memory.set_largest_unit(block.name());
    }
    *plan.add_blocks() = block;
  }
  const auto most = std::max_element(
      ranks.begin(), ranks.end(), [](const plan::Bytes& a, const plan::Bytes& b) { return a.states() < b.states(); });
  AddStates(*most, *memory.mutable_rank());
  memory.set_required_bytes(memory.rank().gathered_weights() + (memory.offloaded() ? 0 : memory.rank().states()));
  return absl::OkStatus();
}

// The fewest ranks of FSDP whose share of the states fits beside the largest unit; 0 if none does.
int64_t RanksThatFit(const plan::Memory& memory, int64_t device_bytes) {
  const int64_t room = device_bytes - memory.rank().gathered_weights();
  return room <= 0 || memory.offloaded() ? 0 : CeilDiv(memory.whole().states(), room);
}

void CheckMemory(plan::Plan& plan, Reasons& reasons) {
  if (!plan.cluster().has_memory_bytes()) return;
  const int64_t device = plan.cluster().memory_bytes();
  plan::Memory& memory = *plan.mutable_memory();
  if (memory.required_bytes() <= device) {
    memory.set_left_bytes(device - memory.required_bytes());
    return;
  }
  const plan::Bytes& rank = memory.rank();
  const int64_t ranks = RanksThatFit(memory, device);
  const std::string states =
      memory.offloaded()
          ? ""
          : absl::StrCat("weights ", FormatBytes(rank.weights()), " + gradients ", FormatBytes(rank.gradients()),
                         " + optimizer state ", FormatBytes(rank.optimizer_state()), " = ", FormatBytes(rank.states()),
                         " of states (", FormatBytes(memory.whole().states()), " over ", plan.mesh().fsdp_degree(),
                         " ranks), + ");
  reasons.push_back(absl::StrCat(
      "cluster: one ", plan.cluster().accelerator(), " holds ", FormatBytes(device), ", but a rank needs ",
      FormatBytes(memory.required_bytes()), " before any activation: ", states, "the largest gathered unit, ",
      memory.largest_unit(), ", ", FormatBytes(rank.gathered_weights()), "; ",
      ranks > 0 ? absl::StrCat("shard over at least ", ranks, " devices (cluster.num_nodes, cluster.devices_per_node)")
                : "take devices with more memory"));
}

std::vector<std::string> Notes(const plan::Plan& plan) {
  std::vector<std::string> notes = {
      "Activations, communication buffers and the allocator's reserve are not counted: what a device has left must "
      "hold "
      "them."};
  if (plan.memory().offloaded()) {
    notes.push_back(
        "Weights, gradients and optimizer state are offloaded. The gradient of a unit, which the device holds until it "
        "is reduced, is not counted.");
  }
  if (plan.memory().has_host()) {
    notes.push_back(absl::StrCat("Each node must have ", FormatBytes(plan.memory().host().node_bytes()),
                                 " of memory for this, beside the processes themselves and the cache of files; whether "
                                 "it has, is not checked. Pinned memory comes in powers of two."));
  }
  if (plan.compute().has_min_seconds_per_step()) {
    notes.push_back(
        "Times assume every device at its peak and are lower bounds; good runs of large models reach 35 to 55 % of "
        "it.");
  }
  return notes;
}

}  // namespace

absl::StatusOr<plan::Plan> BuildPlan(const config::Experiment& experiment, std::string_view name,
                                     std::string_view pipeline_schedule_csv) {
  TITAN_ASSIGN_OR_RETURN(const ModelSpec spec, BuildModelSpec(experiment.model()));
  const config::Training& training = experiment.training();
  Reasons reasons;
  plan::Plan plan;
  plan.set_name(name);

  plan::Model& model = *plan.mutable_model();
  model.set_family(config::Model::Family_descriptor()
                       ->FindValueByNumber(experiment.model().name())
                       ->options()
                       .GetExtension(config::value)
                       .name());
  model.set_flavor(experiment.model().flavor());
  model.set_n_layers(experiment.model().n_layers());
  model.set_parameters(spec.num_parameters());
  model.set_embedding_parameters(spec.num_embedding_parameters());
  model.set_tied(experiment.model().enable_weight_tying());

  *plan.mutable_cluster() = PlanCluster(experiment.cluster());
  *plan.mutable_mesh() = PlanMesh(experiment.parallelism(), plan.cluster(), reasons);
  *plan.mutable_batch() = PlanBatch(training, plan.mesh(), reasons);
  *plan.mutable_compute() =
      PlanCompute(FlopsPerToken(experiment.model(), spec, training.seq_len()), plan.batch(), plan.cluster());
  plan.mutable_memory()->set_state_dtype(NameOfDtype(training.dtype()));
  plan.mutable_memory()->set_compute_dtype(NameOfDtype(training.mixed_precision_param()));
  plan.mutable_memory()->set_offloaded(Offloads(experiment));
  const absl::Status planned = [&]() -> absl::Status {
    TITAN_ASSIGN_OR_RETURN(const ParamGroups groups, ResolveParamGroups(experiment.optimizer(), spec));
    TITAN_ASSIGN_OR_RETURN(const std::vector<int64_t> pipeline_ranks,
                           PipelineRanks(experiment, spec, pipeline_schedule_csv));
    TITAN_RETURN_IF_ERROR(PlanBlocks(spec, groups, pipeline_ranks, SizesOf(experiment, plan.mesh()), plan));
    const plan::HostMemory host = PlanHostMemory(experiment, plan, pipeline_ranks);
    if (host.rank_bytes() > 0) *plan.mutable_memory()->mutable_host() = host;
    return absl::OkStatus();
  }();
  if (planned.ok()) {
    CheckMemory(plan, reasons);
  } else {
    reasons.emplace_back(planned.message());
  }
  for (std::string& note : Notes(plan)) plan.add_notes(std::move(note));

  if (!reasons.empty()) return absl::InvalidArgumentError(absl::StrJoin(reasons, "\n"));
  return plan;
}

std::string CanonicalBytes(const plan::Plan& plan) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    CHECK(plan.SerializeToCodedStream(&coded)) << "a plan that cannot be serialized";
  }
  return bytes;
}

}  // namespace titan
