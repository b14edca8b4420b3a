#include "titan/config/rules.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "titan/config/data_rules.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/optimizer_rules.h"
#include "titan/config/validation_rules.h"

namespace titan {
namespace {

using config::Experiment;

bool Divides(int64_t divisor, int64_t value) { return divisor > 0 && value % divisor == 0; }

// --- The model.

void HeadDim(const Experiment& experiment, ConfigErrors& errors) {
  const config::Model& model = experiment.model();
  if (!model.has_head_dim()) {
    errors.Add("model.dim", absl::StrCat(model.dim(), " is not divisible by model.n_heads = ", model.n_heads(),
                                         "; change one of them or set model.head_dim"));
  } else if (model.head_dim() % 2 != 0) {
    errors.Add("model.head_dim", absl::StrCat(model.head_dim(),
                                              " (model.dim / model.n_heads when unset) is odd; rotary "
                                              "embedding needs pairs, so it must be even"));
  }
}

void KvHeadsDivideHeads(const Experiment& experiment, ConfigErrors& errors) {
  const config::Model& model = experiment.model();
  if (Divides(model.n_kv_heads(), model.n_heads())) return;
  errors.Add("model.n_kv_heads", absl::StrCat(model.n_kv_heads(), " does not divide model.n_heads = ", model.n_heads(),
                                              "; each key and value head serves the same number of query heads"));
}

void RopeFrequencyFactors(const Experiment& experiment, ConfigErrors& errors) {
  const config::Rope& rope = experiment.model().rope();
  if (rope.scaling_type() != config::Rope::SCALING_TYPE_LLAMA3) return;
  if (rope.low_freq_factor() < rope.high_freq_factor()) return;
  errors.Add("model.rope.low_freq_factor",
             absl::StrCat(rope.low_freq_factor(), " must be below high_freq_factor = ", rope.high_freq_factor()));
}

void SeqLenWithinContext(const Experiment& experiment, ConfigErrors& errors) {
  const int64_t seq_len = experiment.training().seq_len();
  const int64_t max_seq_len = experiment.model().max_seq_len();
  if (seq_len <= max_seq_len) return;
  errors.Add("training.seq_len", absl::StrCat(seq_len, " is above model.max_seq_len = ", max_seq_len,
                                              ", the longest context that the model is meant for"));
}

void MoeRouting(const Experiment& experiment, ConfigErrors& errors) {
  if (!experiment.model().has_moe()) return;
  const config::Moe& moe = experiment.model().moe();
  if (moe.top_k() > moe.num_experts()) {
    errors.Add("model.moe.top_k", absl::StrCat(moe.top_k(), " is above num_experts = ", moe.num_experts()));
  }
  if (moe.num_expert_groups() > 0 && !Divides(moe.num_expert_groups(), moe.num_experts())) {
    errors.Add("model.moe.num_expert_groups",
               absl::StrCat(moe.num_expert_groups(), " does not divide num_experts = ", moe.num_experts()));
  }
  if (moe.num_limited_groups() > moe.num_expert_groups()) {
    errors.Add("model.moe.num_limited_groups",
               absl::StrCat(moe.num_limited_groups(), " is above num_expert_groups = ", moe.num_expert_groups()));
  }
  if (moe.n_dense_layers() > experiment.model().n_layers()) {
    errors.Add("model.moe.n_dense_layers",
               absl::StrCat(moe.n_dense_layers(), " is above model.n_layers = ", experiment.model().n_layers()));
  }
}

// --- Parallelism.

int64_t WorldSize(const Experiment& experiment) {
  return experiment.cluster().num_nodes() * experiment.cluster().devices_per_node();
}

// Product of all degrees except dp_shard.
int64_t DegreesBesideShard(const config::Parallelism& parallelism) {
  return parallelism.pipeline_parallel_degree() * parallelism.data_parallel_replicate_degree() *
         parallelism.context_parallel_degree() * parallelism.tensor_parallel_degree();
}

// With -1 resolved; nothing if the degrees do not fit the cluster.
std::optional<int64_t> ShardDegree(const Experiment& experiment) {
  const int64_t given = experiment.parallelism().data_parallel_shard_degree();
  if (given != -1) return given;
  const int64_t others = DegreesBesideShard(experiment.parallelism());
  if (!Divides(others, WorldSize(experiment))) return std::nullopt;
  return WorldSize(experiment) / others;
}

// "pp 1 x dp_replicate 1 x dp_shard 8 x cp 1 x tp 2 = 16"
std::string DegreesText(const config::Parallelism& parallelism, std::optional<int64_t> shard) {
  const int64_t product = DegreesBesideShard(parallelism) * shard.value_or(1);
  return absl::StrCat(
      "pp ", parallelism.pipeline_parallel_degree(), " x dp_replicate ", parallelism.data_parallel_replicate_degree(),
      shard.has_value() ? absl::StrCat(" x dp_shard ", *shard) : "", " x cp ", parallelism.context_parallel_degree(),
      " x tp ", parallelism.tensor_parallel_degree(), " = ", product);
}

void DegreesFillTheCluster(const Experiment& experiment, ConfigErrors& errors) {
  const config::Parallelism& parallelism = experiment.parallelism();
  const std::string cluster =
      absl::StrCat("the cluster has ", experiment.cluster().num_nodes(), " nodes x ",
                   experiment.cluster().devices_per_node(), " devices = ", WorldSize(experiment));
  const int64_t given = parallelism.data_parallel_shard_degree();
  if (given == -1 && !ShardDegree(experiment).has_value()) {
    errors.Add("parallelism.data_parallel_shard_degree",
               absl::StrCat("-1 cannot take what is left: ", DegreesText(parallelism, std::nullopt), ", and ", cluster,
                            ", which is not a multiple of it"));
  } else if (given != -1 && DegreesBesideShard(parallelism) * given != WorldSize(experiment)) {
    errors.Add("parallelism.data_parallel_shard_degree",
               absl::StrCat(DegreesText(parallelism, given), ", but ", cluster,
                            "; the degrees must multiply to the number of devices (-1 takes what is left)"));
  }
}

void TensorParallelDivides(const Experiment& experiment, ConfigErrors& errors) {
  const int64_t tp = experiment.parallelism().tensor_parallel_degree();
  const config::Model& model = experiment.model();
  const std::pair<std::string_view, int64_t> divided[] = {
      {"n_heads", model.n_heads()}, {"n_kv_heads", model.n_kv_heads()}, {"ffn_hidden_dim", model.ffn_hidden_dim()}};
  for (const auto& [name, value] : divided) {
    if (Divides(tp, value)) continue;
    errors.Add("parallelism.tensor_parallel_degree", absl::StrCat(tp, " does not divide model.", name, " = ", value));
  }
}

void AsyncTensorParallel(const Experiment& experiment, ConfigErrors& errors) {
  const config::Parallelism& parallelism = experiment.parallelism();
  if (!parallelism.enable_async_tensor_parallel()) return;
  if (parallelism.tensor_parallel_degree() == 1) {
    errors.Add("parallelism.enable_async_tensor_parallel", "needs tensor_parallel_degree above 1");
  }
  if (!parallelism.enable_sequence_parallel()) {
    errors.Add("parallelism.enable_async_tensor_parallel",
               "needs enable_sequence_parallel: what overlaps with the products is the gathering and scattering of "
               "tokens; set enable_sequence_parallel = true or leave this field out");
  }
}

void SequenceDivides(const Experiment& experiment, ConfigErrors& errors) {
  const int64_t cp = experiment.parallelism().context_parallel_degree();
  const int64_t tp = experiment.parallelism().tensor_parallel_degree();
  const int64_t tp_parts = experiment.parallelism().enable_sequence_parallel() ? tp : 1;
  const int64_t divisor = tp_parts * (cp > 1 ? 2 * cp : 1);
  if (Divides(divisor, experiment.training().seq_len())) return;
  errors.Add("training.seq_len", absl::StrCat(experiment.training().seq_len(), " is not divisible by ", divisor,
                                              " = tp ", tp_parts, cp > 1 ? absl::StrCat(" x 2 x cp ", cp) : ""));
}

void PipelineSplits(const Experiment& experiment, ConfigErrors& errors) {
  const config::Parallelism& parallelism = experiment.parallelism();
  const int64_t pp = parallelism.pipeline_parallel_degree();
  if (pp == 1) return;
  if (experiment.model().enable_weight_tying()) {
    errors.Add("model.enable_weight_tying",
               "tied weights do not go with pipeline_parallel_degree above 1: embedding and "
               "output projection are on different ranks");
  }
  if (pp > experiment.model().n_layers()) {
    errors.Add("parallelism.pipeline_parallel_degree",
               absl::StrCat(pp, " is above model.n_layers = ", experiment.model().n_layers()));
  }
  const int64_t microbatch = parallelism.pipeline_parallel_microbatch_size();
  if (!Divides(microbatch, experiment.training().local_batch_size())) {
    errors.Add("parallelism.pipeline_parallel_microbatch_size",
               absl::StrCat(microbatch,
                            " does not divide training.local_batch_size = ", experiment.training().local_batch_size()));
  }
}

void ExpertParallelDivides(const Experiment& experiment, ConfigErrors& errors) {
  const config::Parallelism& parallelism = experiment.parallelism();
  const int64_t ep = parallelism.expert_parallel_degree();
  if (ep == 1) return;
  if (!experiment.model().has_moe()) {
    errors.Add("parallelism.expert_parallel_degree", absl::StrCat(ep, " needs a model with experts (model.moe)"));
    return;
  }
  if (!Divides(ep, experiment.model().moe().num_experts())) {
    errors.Add("parallelism.expert_parallel_degree",
               absl::StrCat(ep, " does not divide model.moe.num_experts = ", experiment.model().moe().num_experts()));
  }
  const std::optional<int64_t> shard = ShardDegree(experiment);
  if (!shard.has_value()) return;
  const int64_t ranks = *shard * parallelism.context_parallel_degree() * parallelism.tensor_parallel_degree();
  if (!Divides(ep, ranks)) {
    errors.Add("parallelism.expert_parallel_degree",
               absl::StrCat(ep, " does not divide dp_shard x cp x tp = ", ranks, ", from which it borrows its ranks"));
  }
}

// --- The step.

void GlobalBatchDivides(const Experiment& experiment, ConfigErrors& errors) {
  const config::Training& training = experiment.training();
  const std::optional<int64_t> shard = ShardDegree(experiment);
  if (training.global_batch_size() == -1 || !shard.has_value()) return;
  const int64_t replicate = experiment.parallelism().data_parallel_replicate_degree();
  const int64_t pass = training.local_batch_size() * replicate * *shard;
  if (Divides(pass, training.global_batch_size())) return;
  const int64_t below = training.global_batch_size() / pass * pass;
  errors.Add("training.global_batch_size",
             absl::StrCat(training.global_batch_size(), " is not a multiple of ", pass, " = local_batch_size ",
                          training.local_batch_size(), " x dp_replicate ", replicate, " x dp_shard ", *shard,
                          "; the next that fit: ", below > 0 ? absl::StrCat(below, " and ") : "", below + pass));
}

constexpr char kTotalSteps[] = " steps of the schedule (lr_scheduler.total_steps; training.steps when unset)";

void WarmupFitsSchedule(const Experiment& experiment, ConfigErrors& errors) {
  const config::LrScheduler& schedule = experiment.lr_scheduler();
  const int64_t total = schedule.total_steps();
  if (schedule.warmup_steps() > total) {
    errors.Add("lr_scheduler.warmup_steps",
               absl::StrCat(schedule.warmup_steps(), " is above the ", total, kTotalSteps,
                            "; lower it, or set total_steps to run the beginning of a longer schedule"));
    return;
  }
  if (!schedule.has_decay_ratio()) return;
  const int64_t decay = std::llround(static_cast<double>(total) * schedule.decay_ratio());
  if (schedule.warmup_steps() + decay > total) {
    errors.Add("lr_scheduler.decay_ratio",
               absl::StrCat("warmup ", schedule.warmup_steps(), " + decay ", decay, " = ",
                            schedule.warmup_steps() + decay, " is above the ", total, kTotalSteps,
                            "; lower decay_ratio or warmup_steps, or leave decay_ratio out"));
  }
}

void ScheduleLastsLongEnough(const Experiment& experiment, ConfigErrors& errors) {
  const config::LrScheduler& schedule = experiment.lr_scheduler();
  const int64_t steps = experiment.training().steps();
  const bool ends_at_zero =
      schedule.min_lr_factor() == 0 && !(schedule.has_decay_ratio() && schedule.decay_ratio() == 0);
  if (steps <= schedule.total_steps() || !ends_at_zero) return;
  errors.Add("training.steps", absl::StrCat(steps, " is above lr_scheduler.total_steps = ", schedule.total_steps(),
                                            ", after which the learning rate is 0; raise total_steps too, or set "
                                            "min_lr_factor"));
}

void SelectiveAcOption(const Experiment& experiment, ConfigErrors& errors) {
  const std::string& option = experiment.activation_checkpoint().selective_ac_option();
  int64_t every;
  if (option == "op" || option == "elementwise" || (absl::SimpleAtoi(option, &every) && every > 0)) return;
  errors.Add("activation_checkpoint.selective_ac_option",
             absl::StrCat("\"", option,
                          "\" is neither \"op\" nor \"elementwise\" nor a positive integer in quotes, such as \"2\" "
                          "for every second layer"));
}

void ActivationOffloading(const Experiment& experiment, ConfigErrors& errors) {
  constexpr char kPath[] = "activation_checkpoint.offload_layers";
  const int64_t count = experiment.activation_checkpoint().offload_layers();
  if (count == 0) return;
  const int64_t layers = experiment.model().n_layers();
  if (count >= layers) {
    errors.Add(kPath, absl::StrCat(count, " is not below model.n_layers = ", layers,
                                   "; the last layer's backward comes at once, so that at most ", layers - 1,
                                   " can be offloaded"));
  }
  if (experiment.parallelism().pipeline_parallel_degree() > 1) {
    errors.Add(kPath, "does not go with parallelism.pipeline_parallel_degree above 1 yet; leave one out");
  }
  if (experiment.training().enable_cuda_graphs()) {
    errors.Add(kPath, "does not go with training.enable_cuda_graphs; leave one out");
  }
}

void HardwareHasFeature(const Experiment& experiment, ConfigErrors& errors) {
  const auto accelerator = experiment.cluster().accelerator();
  if (experiment.training().enable_cuda_graphs() && accelerator == config::Cluster::ACCELERATOR_CPU) {
    errors.Add("training.enable_cuda_graphs", "needs a GPU, but cluster.accelerator is \"cpu\"");
  }
  const auto& float8 = experiment.quantize().linear().float8();
  const bool has_float8 =
      accelerator != config::Cluster::ACCELERATOR_CPU && accelerator != config::Cluster::ACCELERATOR_A100;
  if (float8.recipe_name() != config::Quantize::Float8::RECIPE_NAME_NONE && !has_float8 && !float8.emulate()) {
    errors.Add("quantize.linear.float8.recipe_name",
               "cluster.accelerator has no float8 (an h100 has); set quantize.linear.float8.emulate = true");
  }
  if (float8.emulate() && accelerator != config::Cluster::ACCELERATOR_CPU) {
    errors.Add("quantize.linear.float8.emulate", "is for cluster.accelerator = \"cpu\"; a GPU computes in float8");
  }
}

void Float8Gather(const Experiment& experiment, ConfigErrors& errors) {
  const auto& float8 = experiment.quantize().linear().float8();
  if (float8.precompute_float8_dynamic_scale_for_fsdp() && !float8.enable_fsdp_float8_all_gather()) {
    errors.Add("quantize.linear.float8.precompute_float8_dynamic_scale_for_fsdp",
               "is for enable_fsdp_float8_all_gather, which is false");
  }
  if (!float8.enable_fsdp_float8_all_gather()) return;
  if (float8.recipe_name() != config::Quantize::Float8::RECIPE_NAME_TENSORWISE) {
    errors.Add("quantize.linear.float8.enable_fsdp_float8_all_gather", "wants recipe_name = \"tensorwise\"");
  }
  if (experiment.training().enable_cpu_offload()) {
    errors.Add("quantize.linear.float8.enable_fsdp_float8_all_gather",
               "does not go with training.enable_cpu_offload; leave one out");
  }
}

// What is recorded must not communicate.
void CudaGraphsAlone(const Experiment& experiment, ConfigErrors& errors) {
  if (!experiment.training().enable_cuda_graphs()) return;
  const config::Parallelism& parallelism = experiment.parallelism();
  const auto check = [&](const char* path, int64_t degree) {
    if (degree <= 1) return;
    errors.Add(path, absl::StrCat("is ", degree, ", but with training.enable_cuda_graphs it must be 1; only ",
                                  "data_parallel_replicate_degree may be larger"));
  };
  check("parallelism.data_parallel_shard_degree", ShardDegree(experiment).value_or(1));
  check("parallelism.tensor_parallel_degree", parallelism.tensor_parallel_degree());
  check("parallelism.context_parallel_degree", parallelism.context_parallel_degree());
  check("parallelism.pipeline_parallel_degree", parallelism.pipeline_parallel_degree());
  if (experiment.training().enable_cpu_offload()) {
    errors.Add("training.enable_cpu_offload", "does not go with training.enable_cuda_graphs; leave one out");
  }
}

// Extents of the matrices that one rank multiplies are multiples of 16, which the tensor cores want.
void Float8Shapes(const Experiment& experiment, ConfigErrors& errors) {
  if (experiment.quantize().linear().float8().recipe_name() == config::Quantize::Float8::RECIPE_NAME_NONE) return;
  const config::Model& model = experiment.model();
  const config::Parallelism& parallelism = experiment.parallelism();
  const int64_t tp = std::max<int64_t>(parallelism.tensor_parallel_degree(), 1);
  const auto check = [&](const char* path, const char* what, int64_t extent) {
    if (extent % 16 == 0) return;
    errors.Add(path, absl::StrCat(what, " is ", extent, ", which quantize.linear.float8 wants to be a multiple of 16"));
  };
  check("model.dim", "the width of a float8 matrix", model.dim());
  check("model.ffn_hidden_dim", "one rank's part of it", model.ffn_hidden_dim() / tp);
  check("model.n_heads", "one rank's part of n_heads * head_dim", model.n_heads() * model.head_dim() / tp);
  check("model.n_kv_heads", "one rank's part of n_kv_heads * head_dim", model.n_kv_heads() * model.head_dim() / tp);
  const int64_t rows = parallelism.pipeline_parallel_degree() > 1 ? parallelism.pipeline_parallel_microbatch_size()
                                                                  : experiment.training().local_batch_size();
  check("training.seq_len", "the number of tokens of a microbatch on one rank",
        rows * experiment.training().seq_len() / std::max<int64_t>(parallelism.context_parallel_degree(), 1));
  if (parallelism.enable_async_tensor_parallel()) {
    errors.Add("parallelism.enable_async_tensor_parallel",
               "does not go with quantize.linear.float8 yet; leave one out");
  }
}

// --- Files.

// A folder that stays below the run directory.
void FolderBelowRun(std::string_view path, const std::string& folder, ConfigErrors& errors) {
  const std::vector<std::string> parts = absl::StrSplit(folder, '/');
  const bool climbs = std::find(parts.begin(), parts.end(), "..") != parts.end();
  if (!absl::StartsWith(folder, "/") && !climbs) return;
  errors.Add(std::string(path), absl::StrCat("\"", folder,
                                             "\" must be a path below the run directory, without a leading "
                                             "'/' or '..'; --out says where the run directory is"));
}

void FoldersBelowRun(const Experiment& experiment, ConfigErrors& errors) {
  FolderBelowRun("checkpoint.folder", experiment.checkpoint().folder(), errors);
  FolderBelowRun("metrics.save_tb_folder", experiment.metrics().save_tb_folder(), errors);
  FolderBelowRun("profiling.save_traces_folder", experiment.profiling().save_traces_folder(), errors);
  FolderBelowRun("comm.save_traces_folder", experiment.comm().save_traces_folder(), errors);
}

void ProfiledStepsFit(const Experiment& experiment, ConfigErrors& errors) {
  const config::Profiling& profiling = experiment.profiling();
  if (profiling.profiler_warmup() + profiling.profiler_active() <= profiling.profile_freq()) return;
  errors.Add("profiling.profile_freq",
             absl::StrCat(profiling.profile_freq(), " is below profiler_warmup (", profiling.profiler_warmup(),
                          ") + profiler_active (", profiling.profiler_active(), ")"));
}

void InitialLoad(const Experiment& experiment, ConfigErrors& errors) {
  const config::Checkpoint& checkpoint = experiment.checkpoint();
  const std::string& path = checkpoint.initial_load_path();
  if (!path.empty() && !absl::StartsWith(path, "/")) {
    errors.Add("checkpoint.initial_load_path", absl::StrCat("\"", path, "\" must be an absolute path"));
  }
  if (checkpoint.initial_load_in_hf() && path.empty()) {
    errors.Add("checkpoint.initial_load_in_hf", "needs checkpoint.initial_load_path, the Hugging Face folder");
  }
  if (checkpoint.initial_load_in_hf() && !checkpoint.initial_load_model_only()) {
    errors.Add("checkpoint.initial_load_in_hf",
               "a Hugging Face folder has no optimizer state; leave "
               "checkpoint.initial_load_model_only true");
  }
  if (checkpoint.initial_load_in_hf_quantized() && !checkpoint.initial_load_in_hf()) {
    errors.Add("checkpoint.initial_load_in_hf_quantized", "needs checkpoint.initial_load_in_hf");
  }
}

void ExcludedFromLoading(const Experiment& experiment, ConfigErrors& errors) {
  constexpr std::string_view kOptimizer = "optimizer", kLrScheduler = "lr_scheduler", kDataloader = "dataloader";
  const auto& excluded = experiment.checkpoint().exclude_from_loading();
  const auto is_excluded = [&](std::string_view what) {
    return std::find(excluded.begin(), excluded.end(), what) != excluded.end();
  };
  for (const std::string& what : excluded) {
    if (what == kOptimizer || what == kLrScheduler || what == kDataloader) continue;
    const bool is_new_run = what == "model" || what == "train_state";
    errors.Add("checkpoint.exclude_from_loading",
               absl::StrCat("\"", what, "\" ",
                            is_new_run ? "cannot be left out: a run that begins at step 1 with another's parameters "
                                         "takes checkpoint.initial_load_path; "
                                       : "is not known; ",
                            "what can be left out is optimizer, lr_scheduler and dataloader"));
  }
  if (is_excluded(kOptimizer) && !is_excluded(kLrScheduler)) {
    errors.Add("checkpoint.exclude_from_loading",
               "leaves out optimizer but not lr_scheduler: new averages want the warm-up again");
  }
}

void CheckpointSwitches(const Experiment& experiment, ConfigErrors& errors) {
  const config::Checkpoint& checkpoint = experiment.checkpoint();
  if (checkpoint.last_save_in_hf() && !checkpoint.last_save_model_only()) {
    errors.Add("checkpoint.last_save_in_hf",
               "a Hugging Face folder has no optimizer state; set "
               "checkpoint.last_save_model_only = true");
  }
  if (checkpoint.enable() && checkpoint.load_only() && checkpoint.enable_first_step_checkpoint()) {
    errors.Add("checkpoint.enable_first_step_checkpoint", "contradicts checkpoint.load_only, which saves nothing");
  }
  if (checkpoint.export_dtype() != config::Training::DTYPE_FLOAT32 && !checkpoint.last_save_model_only()) {
    errors.Add("checkpoint.export_dtype",
               "is that of the last checkpoint when it holds the model alone, since training goes on from float32; set "
               "checkpoint.last_save_model_only = true too");
  }
  // A seed checkpoint is written in any case, by the values of initial_load_path if that is set.
  if (checkpoint.enable() || checkpoint.create_seed_checkpoint()) return;
  const std::pair<std::string_view, bool> switches[] = {
      {"initial_load_path", !checkpoint.initial_load_path().empty()},
      {"load_only", checkpoint.load_only()},
      {"last_save_model_only", checkpoint.last_save_model_only()},
      {"enable_first_step_checkpoint", checkpoint.enable_first_step_checkpoint()},
      {"load_step", checkpoint.load_step() != -1},
      {"exclude_from_loading", !checkpoint.exclude_from_loading().empty()},
  };
  for (const auto& [name, is_set] : switches) {
    if (is_set) errors.Add(absl::StrCat("checkpoint.", name), "has no effect; set checkpoint.enable = true too");
  }
}

}  // namespace

const std::vector<Rule>& CrossFieldRules() {
  // The fields that say how many ranks there are, and how they are arranged.
  static const std::string& world = *new std::string(
      "parallelism.pipeline_parallel_degree parallelism.data_parallel_replicate_degree "
      "parallelism.data_parallel_shard_degree parallelism.context_parallel_degree parallelism.tensor_parallel_degree "
      "cluster.num_nodes cluster.devices_per_node ");
  static const auto& rules = *new std::vector<Rule>{
      {"head_dim", "model.dim model.n_heads model.head_dim", &HeadDim},
      {"kv_heads_divide_heads", "model.n_heads model.n_kv_heads", &KvHeadsDivideHeads},
      {"rope_frequency_factors", "model.rope.scaling_type model.rope.low_freq_factor model.rope.high_freq_factor",
       &RopeFrequencyFactors},
      {"seq_len_within_context", "training.seq_len model.max_seq_len", &SeqLenWithinContext},
      {"moe_routing", "model.moe model.n_layers", &MoeRouting},
      {"corpus_names", "data.sources validation.enable validation.sources", &CorpusNames},
      {"synthetic_is_alone", "data.sources validation.enable validation.sources", &SyntheticIsAlone},
      {"text_field_of_jsonl", "data.sources validation.enable validation.sources", &TextFieldOfJsonl},
      {"degrees_fill_the_cluster", world, &DegreesFillTheCluster},
      {"tensor_parallel_divides",
       "parallelism.tensor_parallel_degree model.n_heads model.n_kv_heads model.ffn_hidden_dim",
       &TensorParallelDivides},
      {"async_tensor_parallel",
       "parallelism.enable_async_tensor_parallel parallelism.tensor_parallel_degree "
       "parallelism.enable_sequence_parallel",
       &AsyncTensorParallel},
      {"sequence_divides",
       "training.seq_len parallelism.context_parallel_degree parallelism.tensor_parallel_degree "
       "parallelism.enable_sequence_parallel",
       &SequenceDivides},
      {"pipeline_splits",
       "parallelism.pipeline_parallel_degree parallelism.pipeline_parallel_microbatch_size "
       "model.enable_weight_tying model.n_layers training.local_batch_size",
       &PipelineSplits},
      {"expert_parallel_divides", world + "parallelism.expert_parallel_degree model.moe", &ExpertParallelDivides},
      {"global_batch_divides", world + "training.global_batch_size training.local_batch_size", &GlobalBatchDivides},
      {"warmup_fits_schedule",
       "lr_scheduler.warmup_steps lr_scheduler.decay_ratio lr_scheduler.total_steps training.steps",
       &WarmupFitsSchedule},
      {"schedule_lasts_long_enough",
       "lr_scheduler.min_lr_factor lr_scheduler.decay_ratio lr_scheduler.total_steps training.steps",
       &ScheduleLastsLongEnough},
      {"selective_ac_option", "activation_checkpoint.selective_ac_option", &SelectiveAcOption},
      {"activation_offloading",
       "activation_checkpoint.offload_layers model.n_layers parallelism.pipeline_parallel_degree "
       "training.enable_cuda_graphs",
       &ActivationOffloading},
      {"cuda_graphs_alone",
       world + "parallelism.tensor_parallel_degree parallelism.context_parallel_degree "
               "parallelism.pipeline_parallel_degree training.enable_cuda_graphs training.enable_cpu_offload",
       &CudaGraphsAlone},
      {"hardware_has_feature", "training.enable_cuda_graphs quantize.linear.float8 cluster.accelerator",
       &HardwareHasFeature},
      {"float8_gather", "quantize.linear.float8 training.enable_cpu_offload", &Float8Gather},
      {"float8_shapes",
       "quantize.linear.float8 model.dim model.ffn_hidden_dim model.n_heads model.n_kv_heads training.seq_len "
       "parallelism.enable_async_tensor_parallel",
       &Float8Shapes},
      {"folders_below_run",
       "checkpoint.folder metrics.save_tb_folder profiling.save_traces_folder comm.save_traces_folder",
       &FoldersBelowRun},
      {"profiled_steps_fit", "profiling.profile_freq profiling.profiler_warmup profiling.profiler_active",
       &ProfiledStepsFit},
      {"initial_load",
       "checkpoint.initial_load_path checkpoint.initial_load_in_hf checkpoint.initial_load_model_only "
       "checkpoint.initial_load_in_hf_quantized",
       &InitialLoad},
      {"excluded_from_loading", "checkpoint.exclude_from_loading", &ExcludedFromLoading},
      {"checkpoint_switches",
       "checkpoint.enable checkpoint.create_seed_checkpoint checkpoint.initial_load_path checkpoint.load_only "
       "checkpoint.load_step checkpoint.exclude_from_loading "
       "checkpoint.enable_first_step_checkpoint checkpoint.last_save_in_hf checkpoint.last_save_model_only "
       "checkpoint.export_dtype",
       &CheckpointSwitches},
      {"holdouts", "data.sources validation.enable validation.sources", &Holdouts},
      {"shuffle_window", "data.shuffle data.shuffle_window data.sources", &ShuffleWindow},
      {"validation_has_sources", "data.sources validation.enable validation.sources validation.steps",
       &ValidationHasSources},
      {"validation_shapes",
       "validation.enable validation.seq_len validation.local_batch_size model.max_seq_len "
       "parallelism.context_parallel_degree parallelism.tensor_parallel_degree parallelism.enable_sequence_parallel "
       "parallelism.pipeline_parallel_degree parallelism.pipeline_parallel_microbatch_size quantize.linear.float8",
       &ValidationShapes},
      {"state_in_bfloat16",
       "optimizer.state_in_bfloat16 optimizer.beta1 optimizer.beta2 optimizer.momentum optimizer.param_groups",
       &StateInBfloat16},
      {"muon_groups", "optimizer.param_groups", &MuonGroups},
  };
  return rules;
}

void CheckRules(const Experiment& experiment, const ConfigErrors& known, ConfigErrors& violations) {
  for (const Rule& rule : CrossFieldRules()) {
    const std::vector<std::string> reads = absl::StrSplit(rule.reads, ' ', absl::SkipEmpty());
    const bool is_sound =
        std::none_of(reads.begin(), reads.end(), [&](const std::string& path) { return known.Concerns(path); });
    if (is_sound) rule.check(experiment, violations);
  }
}

}  // namespace titan
