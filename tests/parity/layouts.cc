#include "tests/parity/layouts.h"

#include "absl/strings/str_cat.h"

namespace titan {
namespace {

struct Degrees {
  int64_t pp = 1, dp_replicate = 1, dp_shard = 1, cp = 1, tp = 1;
};

// A global batch is 8 rows: `rounds` of gradient accumulation share them out, with the ranks of data parallelism.
Layout Make(const std::string& name, const Degrees& d, const std::vector<std::string>& further = {},
            int64_t rounds = 1) {
  Layout layout{.name = name, .world_size = d.pp * d.dp_replicate * d.dp_shard * d.cp * d.tp, .overrides = {}};
  layout.overrides = {
      absl::StrCat("cluster.devices_per_node=", layout.world_size),
      absl::StrCat("parallelism.pipeline_parallel_degree=", d.pp),
      absl::StrCat("parallelism.data_parallel_replicate_degree=", d.dp_replicate),
      absl::StrCat("parallelism.data_parallel_shard_degree=", d.dp_shard),
      absl::StrCat("parallelism.context_parallel_degree=", d.cp),
      absl::StrCat("parallelism.tensor_parallel_degree=", d.tp),
      absl::StrCat("training.local_batch_size=", 8 / (d.dp_replicate * d.dp_shard * rounds)),
  };
  for (const std::string& override : further) layout.overrides.push_back(override);
  return layout;
}

Layout Tied(Layout layout) {
  layout.tied = true;
  layout.overrides.push_back("model.enable_weight_tying=true");
  return layout;
}

Layout WithMuon(Layout layout) {
  layout.muon = true;
  layout.overrides.insert(layout.overrides.end(), MuonOverrides().begin(), MuonOverrides().end());
  return layout;
}

std::vector<std::string> Schedule(const std::string& name) {
  return {absl::StrCat("parallelism.pipeline_parallel_schedule=", name)};
}

std::vector<Layout> MakeLayouts() {
  const std::vector<std::string> full = {"activation_checkpoint.mode=full"};
  const std::vector<std::string> every_other = {"activation_checkpoint.mode=selective",
                                                "activation_checkpoint.selective_ac_option=2"};
  const std::vector<std::string> elementwise = {"activation_checkpoint.mode=selective",
                                                "activation_checkpoint.selective_ac_option=elementwise"};
  const std::vector<std::string> by_operator = {"activation_checkpoint.mode=selective",
                                                "activation_checkpoint.selective_ac_option=op"};
  const std::vector<std::string> offload = {"training.enable_cpu_offload=true"};
  const std::string offloaded_layers = "activation_checkpoint.offload_layers=3";
  const std::string ulysses = "parallelism.context_parallel_rotate_method=ulysses";
  const std::string ring = "parallelism.context_parallel_rotate_method=alltoall";
  const std::string in_order = "parallelism.context_parallel_load_balancer=none";
  const std::string whole_tokens = "parallelism.enable_sequence_parallel=false";
  const std::string whole_logits = "parallelism.disable_loss_parallel=true";
  const std::string overlapped = "parallelism.enable_async_tensor_parallel=true";
  return {
      // One process: what must not change anything.
      Make("accumulation", {}, {}, 4),
      Make("full_recomputation", {}, full),
      Make("every_other_layer_recomputed", {}, every_other),
      Make("selective_op", {}, by_operator),
      Make("selective_elementwise", {}, elementwise),
      // Data parallelism.
      Make("ddp2", {.dp_replicate = 2}),
      Make("fsdp2", {.dp_shard = 2}),
      Make("fsdp2_never_reshards", {.dp_shard = 2}, {"parallelism.fsdp_reshard_after_forward=never"}),
      Make("fsdp2_accumulation", {.dp_shard = 2}, {}, 2),
      Make("fsdp2_accumulation_reduced", {.dp_shard = 2}, {"parallelism.fsdp_reduce_every_microbatch=true"}, 2),
      Make("fsdp2_recomputation", {.dp_shard = 2}, full),
      Make("fsdp2_selective_op", {.dp_shard = 2}, by_operator),
      Tied(Make("fsdp2_tied", {.dp_shard = 2})),
      Make("fsdp2_offload", {.dp_shard = 2}, offload),
      Make("fsdp2_offload_accumulation_reduced", {.dp_shard = 2},
           {offload[0], "parallelism.fsdp_reduce_every_microbatch=true"}, 2),
      Make("hsdp2x2_offload", {.dp_replicate = 2, .dp_shard = 2}, offload),
      Make("fsdp2_offloaded_activations", {.dp_shard = 2}, {offloaded_layers}, 2),
      Make("fsdp4", {.dp_shard = 4}),
      Make("hsdp2x2", {.dp_replicate = 2, .dp_shard = 2}),
      Make("hsdp2x2_accumulation", {.dp_replicate = 2, .dp_shard = 2}, {}, 2),
      Make("fsdp8", {.dp_shard = 8}),
      // Tensor, sequence and loss parallelism.
      Make("tp2", {.tp = 2}),
      Make("tp2_recomputation", {.tp = 2}, every_other),
      Make("tp2_selective_op", {.tp = 2}, by_operator),
      Make("tp2_selective_elementwise", {.tp = 2}, elementwise),
      Tied(Make("tp2_tied", {.tp = 2})),
      Make("tp2_offloaded_activations", {.tp = 2}, {offloaded_layers}),
      Make("tp4", {.tp = 4}),
      Make("tp2_whole_tokens", {.tp = 2}, {whole_tokens}),
      Make("tp4_whole_tokens", {.tp = 4}, {whole_tokens}),
      Tied(Make("tp2_whole_tokens_tied", {.tp = 2}, {whole_tokens})),
      Make("tp2_whole_logits", {.tp = 2}, {whole_logits}),
      Make("tp4_whole_logits", {.tp = 4}, {whole_logits}),
      Tied(Make("tp2_whole_tokens_and_logits_tied", {.tp = 2}, {whole_tokens, whole_logits})),
      Make("tp2_overlapped", {.tp = 2}, {overlapped}),
      Make("tp4_overlapped", {.tp = 4}, {overlapped}),
      Make("tp2_overlapped_recomputation", {.tp = 2}, {overlapped, "activation_checkpoint.mode=full"}),
      Make("tp2_overlapped_selective_op", {.tp = 2}, {overlapped, by_operator[0], by_operator[1]}),
      Tied(Make("tp2_overlapped_tied", {.tp = 2}, {overlapped})),
      // Context parallelism.
      Make("cp2", {.cp = 2}),
      Make("cp2_in_order", {.cp = 2}, {in_order}),
      Make("cp2_ulysses", {.cp = 2}, {ulysses}),
      Make("cp2_ring", {.cp = 2}, {ring}),
      Make("cp2_ring_recomputation", {.cp = 2}, {ring, full.front()}),
      Make("cp2_selective_op", {.cp = 2}, by_operator),
      Make("cp2_ulysses_selective_op", {.cp = 2}, {ulysses, by_operator[0], by_operator[1]}),
      Make("cp4", {.cp = 4}),
      Make("cp4_ring", {.cp = 4}, {ring}),
      Make("cp4_ring_in_order", {.cp = 4}, {ring, in_order}),
      Make("cp4_ulysses_in_order", {.cp = 4}, {ulysses, in_order}),
      // Pipelines.
      Make("pp2_gpipe", {.pp = 2}, Schedule("GPipe")),
      Make("pp2_1f1b", {.pp = 2}, Schedule("1F1B")),
      Make("pp2_interleaved_1f1b", {.pp = 2}, Schedule("Interleaved1F1B")),
      Make("pp2_looped_bfs", {.pp = 2}, Schedule("LoopedBFS")),
      Make("pp2_interleaved_zero_bubble", {.pp = 2}, Schedule("InterleavedZeroBubble")),
      Make("pp2_zbv", {.pp = 2}, Schedule("ZBVZeroBubble")),
      Make("pp2_dual_pipe_v", {.pp = 2}, Schedule("DualPipeV")),
      Make("pp2_recomputation", {.pp = 2}, full),
      Make("pp2_zbv_selective_op", {.pp = 2},
           {"parallelism.pipeline_parallel_schedule=ZBVZeroBubble", by_operator[0], by_operator[1]}),
      Make("pp4_1f1b", {.pp = 4}, Schedule("1F1B")),
      Make("pp4_zbv", {.pp = 4}, Schedule("ZBVZeroBubble")),
      // Mixes.
      Make("fsdp2_tp2", {.dp_shard = 2, .tp = 2}),
      Make("fsdp2_cp2", {.dp_shard = 2, .cp = 2}),
      Make("cp2_tp2", {.cp = 2, .tp = 2}),
      Make("cp2_ulysses_tp2", {.cp = 2, .tp = 2}, {ulysses}),
      Make("cp2_ring_tp2", {.cp = 2, .tp = 2}, {ring}),
      Make("fsdp2_cp2_ring", {.dp_shard = 2, .cp = 2}, {ring}),
      Make("pp2_tp2", {.pp = 2, .tp = 2}),
      Make("cp2_tp2_whole_tokens", {.cp = 2, .tp = 2}, {whole_tokens}),
      Make("cp2_tp2_overlapped", {.cp = 2, .tp = 2}, {overlapped}),
      Make("pp2_tp2_whole_tokens", {.pp = 2, .tp = 2}, {whole_tokens}),
      Make("pp2_tp2_whole_logits", {.pp = 2, .tp = 2}, {whole_logits}),
      Make("pp2_tp2_zbv_overlapped", {.pp = 2, .tp = 2},
           {"parallelism.pipeline_parallel_schedule=ZBVZeroBubble", overlapped}),
      Make("pp2_fsdp2", {.pp = 2, .dp_shard = 2}),
      Make("pp2_fsdp2_accumulation", {.pp = 2, .dp_shard = 2}, {}, 2),
      Make("pp2_cp2", {.pp = 2, .cp = 2}),
      Make("pp2_cp2_ring", {.pp = 2, .cp = 2}, {ring}),
      Make("ddp2_tp2", {.dp_replicate = 2, .tp = 2}),
      Make("fsdp2_cp2_tp2", {.dp_shard = 2, .cp = 2, .tp = 2}),
      Make("hsdp2x2_tp2", {.dp_replicate = 2, .dp_shard = 2, .tp = 2}),
      Make("pp2_fsdp2_tp2", {.pp = 2, .dp_shard = 2, .tp = 2}),
      Make("pp2_fsdp2_tp2_zbv_recomputation", {.pp = 2, .dp_shard = 2, .tp = 2},
           {"parallelism.pipeline_parallel_schedule=ZBVZeroBubble", "activation_checkpoint.mode=full"}),
      Make("pp2_cp2_tp2", {.pp = 2, .cp = 2, .tp = 2}),
      Make("pp2_fsdp2_cp2", {.pp = 2, .dp_shard = 2, .cp = 2}),
      Make("pp2_hsdp2x2", {.pp = 2, .dp_replicate = 2, .dp_shard = 2}),
      Make("pp2_tp2_offload", {.pp = 2, .tp = 2}, offload),
      // Muon, which needs whole matrices.
      WithMuon(Make("muon_accumulation", {}, {}, 4)),
      WithMuon(Make("muon_fsdp2", {.dp_shard = 2})),
      WithMuon(Make("muon_fsdp8", {.dp_shard = 8})),
      WithMuon(Make("muon_fsdp2_offload", {.dp_shard = 2}, offload)),
      WithMuon(Make("muon_hsdp2x2", {.dp_replicate = 2, .dp_shard = 2})),
      WithMuon(Make("muon_tp2", {.tp = 2})),
      WithMuon(Make("muon_cp2", {.cp = 2})),
      WithMuon(Make("muon_pp2", {.pp = 2}, Schedule("1F1B"))),
      WithMuon(Make("muon_fsdp2_tp2", {.dp_shard = 2, .tp = 2})),
      WithMuon(Make("muon_pp2_fsdp2_tp2", {.pp = 2, .dp_shard = 2, .tp = 2})),
  };
}

std::vector<Layout> MakeBenchmarkLayouts() {
  const std::string ulysses = "parallelism.context_parallel_rotate_method=ulysses";
  return {
      Make("one_process", {}),
      Make("ddp8", {.dp_replicate = 8}),
      Make("fsdp8", {.dp_shard = 8}),
      Make("fsdp8_never_reshards", {.dp_shard = 8}, {"parallelism.fsdp_reshard_after_forward=never"}),
      Make("hsdp2x4", {.dp_replicate = 2, .dp_shard = 4}),
      Make("tp8", {.tp = 8}),
      Make("cp8", {.cp = 8}),
      Make("cp8_ulysses", {.cp = 8}, {ulysses}),
      Make("fsdp2_tp4", {.dp_shard = 2, .tp = 4}),
      Make("fsdp4_cp2", {.dp_shard = 4, .cp = 2}),
      Make("pp4_fsdp2_1f1b", {.pp = 4, .dp_shard = 2}, Schedule("1F1B")),
      Make("pp4_fsdp2_zbv", {.pp = 4, .dp_shard = 2}, Schedule("ZBVZeroBubble")),
      Make("fsdp2_cp2_tp2", {.dp_shard = 2, .cp = 2, .tp = 2}),
      Make("pp2_fsdp2_tp2", {.pp = 2, .dp_shard = 2, .tp = 2}),
      Make("pp2_fsdp2_cp2", {.pp = 2, .dp_shard = 2, .cp = 2}),
      Make("fsdp8_recomputation", {.dp_shard = 8}, {"activation_checkpoint.mode=full"}),
  };
}

}  // namespace

const std::vector<std::string>& MuonOverrides() {
  static const auto* const overrides = new std::vector<std::string>{
      "optimizer.name=Muon", "optimizer.adjust_lr_fn=match_rms_adamw",
      R"(optimizer.param_groups=[{"pattern": "^(tok_embeddings|output)[.]"}, {"pattern": "norm", "weight_decay": 0}])"};
  return *overrides;
}

const std::vector<Layout>& BenchmarkLayouts() {
  static const auto* const layouts = new std::vector<Layout>(MakeBenchmarkLayouts());
  return *layouts;
}

const std::vector<Layout>& Layouts() {
  static const auto* const layouts = new std::vector<Layout>(MakeLayouts());
  return *layouts;
}

}  // namespace titan
