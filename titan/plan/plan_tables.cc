#include "titan/plan/plan_tables.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "titan/base/quantities.h"

namespace titan {
namespace {

bool CostTheSame(const plan::Block& a, const plan::Block& b) {
  return a.parameters() == b.parameters() && a.parameters_per_rank() == b.parameters_per_rank() &&
         a.rank().states() == b.rank().states() && a.rank().gathered_weights() == b.rank().gathered_weights();
}

std::string Plural(int64_t count, std::string_view noun) {
  return absl::StrCat(FormatCount(count), " ", noun, count == 1 ? "" : "s");
}

std::string ClusterText(const plan::Cluster& cluster) {
  std::string text =
      absl::StrCat(Plural(cluster.num_nodes(), "node"), " x ", cluster.devices_per_node(), " ", cluster.accelerator());
  if (cluster.has_memory_bytes()) absl::StrAppend(&text, ", ", FormatBytes(cluster.memory_bytes()), " each");
  if (cluster.has_peak_flops()) absl::StrAppend(&text, ", peak ", FormatScaled(cluster.peak_flops()), "FLOP/s in bf16");
  return text;
}

std::string MeshText(const plan::Mesh& mesh) {
  return absl::StrCat("pp ", mesh.pp(), " x dp_replicate ", mesh.dp_replicate(), " x dp_shard ", mesh.dp_shard(),
                      " x cp ", mesh.cp(), " x tp ", mesh.tp(), " = ", Plural(mesh.world_size(), "rank"),
                      mesh.fsdp_degree() > 1 ? absl::StrCat("; FSDP shards over ", mesh.fsdp_degree()) : "");
}

std::string BatchText(const plan::Batch& batch) {
  const int64_t passes = batch.gradient_accumulation_steps();
  return absl::StrCat(Plural(batch.global_batch_size(), "sequence"), " x ", FormatCount(batch.seq_len()),
                      " tokens = ", FormatCount(batch.tokens_per_step()), " tokens a step; ", batch.local_batch_size(),
                      " a rank at a time, ",
                      passes == 1 ? "no gradient accumulation" : absl::StrCat(passes, " passes accumulated"));
}

}  // namespace

std::vector<BlockGroup> GroupBlocks(const plan::Plan& plan) {
  std::vector<BlockGroup> groups;
  for (const plan::Block& block : plan.blocks()) {
    const bool layer = absl::StartsWith(block.name(), "layers.");
    if (layer && !groups.empty() && absl::StartsWith(groups.back().block->name(), "layers.") &&
        CostTheSame(*groups.back().block, block)) {
      BlockGroup& group = groups.back();
      ++group.count;
      group.name = absl::StrCat(group.block->name(), " to ", absl::StripPrefix(block.name(), "layers."), ", each");
    } else {
      groups.push_back({.name = block.name(), .count = 1, .block = &block});
    }
  }
  return groups;
}

std::vector<PlanFact> PlanFacts(const plan::Plan& plan) {
  const plan::Compute& compute = plan.compute();
  std::vector<PlanFact> facts = {{"Cluster", ClusterText(plan.cluster())},
                                 {"Mesh", MeshText(plan.mesh())},
                                 {"Batch", BatchText(plan.batch())},
                                 {"Run", absl::StrCat(Plural(plan.batch().steps(), "step"), ", ",
                                                      FormatCount(plan.batch().total_tokens()), " tokens")},
                                 {"Compute", absl::StrCat(FormatScaled(compute.flops_per_token()), "FLOP a token, ",
                                                          FormatScaled(compute.flops_per_step()), "FLOP a step, ",
                                                          FormatScaled(compute.total_flops()), "FLOP in all")}};
  if (compute.has_min_seconds_per_step()) {
    facts.push_back({"At peak", absl::StrCat("at least ", FormatDuration(compute.min_seconds_per_step()), " a step, ",
                                             FormatDuration(compute.min_total_seconds()), " in all")});
  }
  return facts;
}

std::vector<PlanFact> MemorySum(const plan::Plan& plan) {
  const plan::Memory& memory = plan.memory();
  const std::string_view home = memory.offloaded() ? ", on the host" : "";
  std::vector<PlanFact> sum = {
      {absl::StrCat("weights (", memory.state_dtype(), ")", home), FormatBytes(memory.rank().weights())},
      {absl::StrCat("gradients", home), FormatBytes(memory.rank().gradients())},
      {absl::StrCat("optimizer state", home), FormatBytes(memory.rank().optimizer_state())}};
  if (memory.rank().gathered_weights() > 0) {
    sum.push_back({absl::StrCat("largest gathered unit, ", memory.largest_unit(), " (", memory.compute_dtype(), ")"),
                   FormatBytes(memory.rank().gathered_weights())});
  }
  sum.push_back({"needed before activations", FormatBytes(memory.required_bytes())});
  if (memory.has_left_bytes()) {
    sum.push_back(
        {absl::StrCat("left of ", FormatBytes(plan.cluster().memory_bytes())), FormatBytes(memory.left_bytes())});
  }
  return sum;
}

std::vector<PlanFact> HostMemorySum(const plan::Plan& plan) {
  std::vector<PlanFact> sum;
  if (!plan.memory().has_host()) return sum;
  const plan::HostMemory& host = plan.memory().host();
  const auto add = [&](std::string name, int64_t bytes) {
    if (bytes > 0) sum.push_back({std::move(name), FormatBytes(bytes)});
  };
  add(absl::StrCat("states, and weights in ", plan.memory().compute_dtype()), host.states());
  add("offloaded activations", host.activations());
  add("copy of a checkpoint", host.checkpoint());
  add("a rank", host.rank_bytes());
  add("of it pinned", host.pinned_bytes());
  add(absl::StrCat("a node of ", Plural(plan.cluster().devices_per_node(), "rank")), host.node_bytes());
  return sum;
}

std::string PlanSubtitle(const plan::Plan& plan) {
  return absl::StrCat(plan.model().family(), plan.model().flavor().empty() ? "" : " ", plan.model().flavor(), ": ",
                      FormatCount(plan.model().parameters()), " parameters", plan.model().tied() ? " (tied)" : "",
                      " on ", Plural(plan.cluster().num_nodes(), "node"), " x ", plan.cluster().devices_per_node(), " ",
                      plan.cluster().accelerator());
}

}  // namespace titan
