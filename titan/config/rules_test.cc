#include "titan/config/rules.h"

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"
#include "titan/config/reader.h"

namespace titan {
namespace {

using config::Experiment;
using ::testing::HasSubstr;

// 16 devices, every rule kept.
Experiment Valid() {
  const auto experiment = ReadExperiment(R"({
    "model": {"name": "llama3", "dim": 256, "n_layers": 6, "n_heads": 16, "n_kv_heads": 8, "ffn_hidden_dim": 768,
              "vocab_size": 2048},
    "data": {"sources": [{"corpus": "docs"}]},
    "training": {"steps": 100, "local_batch_size": 8, "seq_len": 256},
    "lr_scheduler": {"warmup_steps": 10},
    "cluster": {"accelerator": "h200", "num_nodes": 2, "devices_per_node": 8}
  })");
  EXPECT_TRUE(experiment.ok()) << experiment.status();
  return *experiment;
}

config::Moe& WithExperts(Experiment& experiment) {
  config::Moe& moe = *experiment.mutable_model()->mutable_moe();
  moe.set_num_experts(8);
  moe.set_top_k(2);
  moe.set_hidden_dim(64);
  return moe;
}

config::Validation& ValidateOn(Experiment& experiment, const std::string& corpus) {
  config::Validation& validation = *experiment.mutable_validation();
  validation.set_enable(true);
  validation.add_sources()->set_corpus(corpus);
  return validation;
}

struct Case {
  std::string rule;
  std::string path;     // of the error
  std::string message;  // a part of it
  std::function<void(Experiment&)> breaks;
};

const std::vector<Case>& Cases() {
  static const auto& cases = *new std::vector<Case>{
      {"head_dim", "model.dim", "not divisible by model.n_heads = 15",
       [](Experiment& e) {
         e.mutable_model()->set_n_heads(15);
         e.mutable_model()->clear_head_dim();
       }},
      {"head_dim", "model.head_dim", "17", [](Experiment& e) { e.mutable_model()->set_head_dim(17); }},
      {"kv_heads_divide_heads", "model.n_kv_heads", "5 does not divide",
       [](Experiment& e) { e.mutable_model()->set_n_kv_heads(5); }},
      {"rope_frequency_factors", "model.rope.low_freq_factor", "4 must be below high_freq_factor = 4",
       [](Experiment& e) {
         e.mutable_model()->mutable_rope()->set_scaling_type(config::Rope::SCALING_TYPE_LLAMA3);
         e.mutable_model()->mutable_rope()->set_low_freq_factor(4);
       }},
      {"seq_len_within_context", "training.seq_len", "above model.max_seq_len = 128",
       [](Experiment& e) { e.mutable_model()->set_max_seq_len(128); }},
      {"moe_routing", "model.moe.top_k", "9 is above num_experts = 8",
       [](Experiment& e) { WithExperts(e).set_top_k(9); }},
      {"moe_routing", "model.moe.num_expert_groups", "3 does not divide",
       [](Experiment& e) { WithExperts(e).set_num_expert_groups(3); }},
      {"moe_routing", "model.moe.num_limited_groups", "2 is above",
       [](Experiment& e) { WithExperts(e).set_num_limited_groups(2); }},
      {"moe_routing", "model.moe.n_dense_layers", "7 is above",
       [](Experiment& e) { WithExperts(e).set_n_dense_layers(7); }},
      {"corpus_names", "data.sources.1.corpus", "is a source already",
       [](Experiment& e) { e.mutable_data()->add_sources()->set_corpus("docs"); }},
      {"corpus_names", "data.sources.1.corpus", "is not a name",
       [](Experiment& e) { e.mutable_data()->add_sources()->set_corpus("../docs"); }},
      {"synthetic_is_alone", "data.sources.1.corpus", "only source",
       [](Experiment& e) { e.mutable_data()->add_sources()->set_corpus("synthetic"); }},
      {"text_field_of_jsonl", "data.sources.0.text_field", "no effect",
       [](Experiment& e) { e.mutable_data()->mutable_sources(0)->set_text_field("body"); }},
      {"degrees_fill_the_cluster", "parallelism.data_parallel_shard_degree",
       "pp 1 x dp_replicate 1 x dp_shard 6 x cp 1 x tp 1 = 6, but the cluster has 2 nodes x 8 devices = 16",
       [](Experiment& e) { e.mutable_parallelism()->set_data_parallel_shard_degree(6); }},
      {"degrees_fill_the_cluster", "parallelism.data_parallel_shard_degree",
       "pp 3 x dp_replicate 1 x cp 1 x tp 1 = 3, and the cluster has 2 nodes x 8 devices = 16",
       [](Experiment& e) { e.mutable_parallelism()->set_pipeline_parallel_degree(3); }},
      {"tensor_parallel_divides", "parallelism.tensor_parallel_degree", "16 does not divide model.n_kv_heads = 8",
       [](Experiment& e) { e.mutable_parallelism()->set_tensor_parallel_degree(16); }},
      {"async_tensor_parallel", "parallelism.enable_async_tensor_parallel", "above 1",
       [](Experiment& e) { e.mutable_parallelism()->set_enable_async_tensor_parallel(true); }},
      {"async_tensor_parallel", "parallelism.enable_async_tensor_parallel", "needs enable_sequence_parallel",
       [](Experiment& e) {
         e.mutable_parallelism()->set_tensor_parallel_degree(2);
         e.mutable_parallelism()->set_enable_async_tensor_parallel(true);
         e.mutable_parallelism()->set_enable_sequence_parallel(false);
       }},
      {"sequence_divides", "training.seq_len", "250 is not divisible by 4 = tp 1 x 2 x cp 2",
       [](Experiment& e) {
         e.mutable_training()->set_seq_len(250);
         e.mutable_parallelism()->set_tensor_parallel_degree(2);
         e.mutable_parallelism()->set_enable_sequence_parallel(false);
         e.mutable_parallelism()->set_context_parallel_degree(2);
       }},
      {"sequence_divides", "training.seq_len", "250 is not divisible by 8 = tp 2 x 2 x cp 2",
       [](Experiment& e) {
         e.mutable_training()->set_seq_len(250);
         e.mutable_parallelism()->set_tensor_parallel_degree(2);
         e.mutable_parallelism()->set_context_parallel_degree(2);
       }},
      {"pipeline_splits", "model.enable_weight_tying", "different ranks",
       [](Experiment& e) {
         e.mutable_parallelism()->set_pipeline_parallel_degree(2);
         e.mutable_model()->set_enable_weight_tying(true);
       }},
      {"pipeline_splits", "parallelism.pipeline_parallel_degree", "8 is above model.n_layers = 6",
       [](Experiment& e) { e.mutable_parallelism()->set_pipeline_parallel_degree(8); }},
      {"pipeline_splits", "parallelism.pipeline_parallel_microbatch_size", "3 does not divide",
       [](Experiment& e) {
         e.mutable_parallelism()->set_pipeline_parallel_degree(2);
         e.mutable_parallelism()->set_pipeline_parallel_microbatch_size(3);
       }},
      {"expert_parallel_divides", "parallelism.expert_parallel_degree", "needs a model with experts",
       [](Experiment& e) { e.mutable_parallelism()->set_expert_parallel_degree(2); }},
      {"expert_parallel_divides", "parallelism.expert_parallel_degree", "16 does not divide model.moe.num_experts = 8",
       [](Experiment& e) {
         WithExperts(e);
         e.mutable_parallelism()->set_expert_parallel_degree(16);
       }},
      {"expert_parallel_divides", "parallelism.expert_parallel_degree", "32 does not divide dp_shard x cp x tp = 16",
       [](Experiment& e) {
         WithExperts(e).set_num_experts(32);
         e.mutable_parallelism()->set_expert_parallel_degree(32);
       }},
      {"global_batch_divides", "training.global_batch_size", "200 is not a multiple of 128",
       [](Experiment& e) { e.mutable_training()->set_global_batch_size(200); }},
      {"warmup_fits_schedule", "lr_scheduler.warmup_steps", "101 is above the 100 steps",
       [](Experiment& e) { e.mutable_lr_scheduler()->set_warmup_steps(101); }},
      {"warmup_fits_schedule", "lr_scheduler.decay_ratio", "warmup 10 + decay 91 = 101 is above the 100 steps",
       [](Experiment& e) { e.mutable_lr_scheduler()->set_decay_ratio(0.91); }},
      {"schedule_lasts_long_enough", "training.steps", "101 is above lr_scheduler.total_steps = 100",
       [](Experiment& e) { e.mutable_training()->set_steps(101); }},
      {"selective_ac_option", "activation_checkpoint.selective_ac_option", "positive integer",
       [](Experiment& e) { e.mutable_activation_checkpoint()->set_selective_ac_option("0"); }},
      {"activation_offloading", "activation_checkpoint.offload_layers", "6 is not below model.n_layers = 6",
       [](Experiment& e) { e.mutable_activation_checkpoint()->set_offload_layers(6); }},
      {"activation_offloading", "activation_checkpoint.offload_layers", "pipeline_parallel_degree above 1",
       [](Experiment& e) {
         e.mutable_activation_checkpoint()->set_offload_layers(2);
         e.mutable_parallelism()->set_pipeline_parallel_degree(2);
       }},
      {"activation_offloading", "activation_checkpoint.offload_layers", "with training.enable_cuda_graphs",
       [](Experiment& e) {
         e.mutable_activation_checkpoint()->set_offload_layers(2);
         e.mutable_training()->set_enable_cuda_graphs(true);
         e.mutable_parallelism()->set_data_parallel_shard_degree(1);
       }},
      {"cuda_graphs_alone", "parallelism.tensor_parallel_degree", "is 2, but with training.enable_cuda_graphs",
       [](Experiment& e) {
         e.mutable_training()->set_enable_cuda_graphs(true);
         e.mutable_parallelism()->set_data_parallel_shard_degree(1);
         e.mutable_parallelism()->set_tensor_parallel_degree(2);
       }},
      {"hardware_has_feature", "training.enable_cuda_graphs", "needs a GPU",
       [](Experiment& e) {
         e.mutable_training()->set_enable_cuda_graphs(true);
         e.mutable_cluster()->set_accelerator(config::Cluster::ACCELERATOR_CPU);
       }},
      {"hardware_has_feature", "quantize.linear.float8.recipe_name", "no float8",
       [](Experiment& e) {
         e.mutable_quantize()->mutable_linear()->mutable_float8()->set_recipe_name(
             config::Quantize::Float8::RECIPE_NAME_ROWWISE);
         e.mutable_cluster()->set_accelerator(config::Cluster::ACCELERATOR_A100);
       }},
      {"hardware_has_feature", "quantize.linear.float8.emulate", "is for cluster.accelerator",
       [](Experiment& e) { e.mutable_quantize()->mutable_linear()->mutable_float8()->set_emulate(true); }},
      {"float8_gather", "quantize.linear.float8.enable_fsdp_float8_all_gather", "wants recipe_name",
       [](Experiment& e) {
         e.mutable_quantize()->mutable_linear()->mutable_float8()->set_enable_fsdp_float8_all_gather(true);
       }},
      {"float8_gather", "quantize.linear.float8.precompute_float8_dynamic_scale_for_fsdp", "which is false",
       [](Experiment& e) {
         e.mutable_quantize()->mutable_linear()->mutable_float8()->set_precompute_float8_dynamic_scale_for_fsdp(true);
       }},
      {"float8_shapes", "training.seq_len", "multiple of 16",
       [](Experiment& e) {
         e.mutable_quantize()->mutable_linear()->mutable_float8()->set_recipe_name(
             config::Quantize::Float8::RECIPE_NAME_TENSORWISE);
         e.mutable_training()->set_local_batch_size(1);
         e.mutable_training()->set_seq_len(8);
       }},
      {"profiled_steps_fit", "profiling.profile_freq", "3 is below profiler_warmup (3) + profiler_active (1)",
       [](Experiment& e) { e.mutable_profiling()->set_profile_freq(3); }},
      {"folders_below_run", "checkpoint.folder", "below the run directory",
       [](Experiment& e) { e.mutable_checkpoint()->set_folder("/checkpoints"); }},
      {"folders_below_run", "metrics.save_tb_folder", "below the run directory",
       [](Experiment& e) { e.mutable_metrics()->set_save_tb_folder("a/../../b"); }},
      {"initial_load", "checkpoint.initial_load_path", "absolute",
       [](Experiment& e) {
         e.mutable_checkpoint()->set_enable(true);
         e.mutable_checkpoint()->set_initial_load_path("weights");
       }},
      {"initial_load", "checkpoint.initial_load_in_hf", "needs checkpoint.initial_load_path",
       [](Experiment& e) { e.mutable_checkpoint()->set_initial_load_in_hf(true); }},
      {"initial_load", "checkpoint.initial_load_in_hf", "no optimizer state",
       [](Experiment& e) {
         e.mutable_checkpoint()->set_enable(true);
         e.mutable_checkpoint()->set_initial_load_path("/weights");
         e.mutable_checkpoint()->set_initial_load_in_hf(true);
         e.mutable_checkpoint()->set_initial_load_model_only(false);
       }},
      {"initial_load", "checkpoint.initial_load_in_hf_quantized", "needs checkpoint.initial_load_in_hf",
       [](Experiment& e) { e.mutable_checkpoint()->set_initial_load_in_hf_quantized(true); }},
      {"excluded_from_loading", "checkpoint.exclude_from_loading", "\"train_state\" cannot be left out",
       [](Experiment& e) {
         e.mutable_checkpoint()->set_enable(true);
         e.mutable_checkpoint()->add_exclude_from_loading("train_state");
       }},
      {"excluded_from_loading", "checkpoint.exclude_from_loading", "\"lm_head\" is not known",
       [](Experiment& e) {
         e.mutable_checkpoint()->set_enable(true);
         e.mutable_checkpoint()->add_exclude_from_loading("lm_head");
       }},
      {"excluded_from_loading", "checkpoint.exclude_from_loading", "but not lr_scheduler",
       [](Experiment& e) {
         e.mutable_checkpoint()->set_enable(true);
         e.mutable_checkpoint()->add_exclude_from_loading("optimizer");
       }},
      {"checkpoint_switches", "checkpoint.exclude_from_loading", "set checkpoint.enable = true too",
       [](Experiment& e) { e.mutable_checkpoint()->add_exclude_from_loading("dataloader"); }},
      {"checkpoint_switches", "checkpoint.last_save_in_hf", "no optimizer state",
       [](Experiment& e) { e.mutable_checkpoint()->set_last_save_in_hf(true); }},
      {"checkpoint_switches", "checkpoint.enable_first_step_checkpoint", "contradicts",
       [](Experiment& e) {
         e.mutable_checkpoint()->set_enable(true);
         e.mutable_checkpoint()->set_load_only(true);
         e.mutable_checkpoint()->set_enable_first_step_checkpoint(true);
       }},
      {"checkpoint_switches", "checkpoint.load_step", "set checkpoint.enable = true too",
       [](Experiment& e) { e.mutable_checkpoint()->set_load_step(0); }},
      {"checkpoint_switches", "checkpoint.export_dtype", "set checkpoint.last_save_model_only = true too",
       [](Experiment& e) { e.mutable_checkpoint()->set_export_dtype(config::Training::DTYPE_BFLOAT16); }},
      {"checkpoint_switches", "checkpoint.last_save_model_only", "set checkpoint.enable = true too",
       [](Experiment& e) { e.mutable_checkpoint()->set_last_save_model_only(true); }},
      {"holdouts", "data.sources.0.validation_split", "validation_documents is 5; leave one of them out",
       [](Experiment& e) {
         e.mutable_data()->mutable_sources(0)->set_validation_split(0.1);
         e.mutable_data()->mutable_sources(0)->set_validation_documents(5);
       }},
      {"holdouts", "data.sources.0.validation_documents", "no documents to hold out",
       [](Experiment& e) {
         e.mutable_data()->mutable_sources(0)->set_corpus("synthetic");
         e.mutable_data()->mutable_sources(0)->set_validation_documents(5);
       }},
      {"holdouts", "data.sources.0.validation_split", "nobody would read what is held out",
       [](Experiment& e) {
         e.mutable_data()->mutable_sources(0)->set_validation_split(0.1);
         ValidateOn(e, "held_out");
       }},
      {"holdouts", "validation.sources.0.validation_split", "only data.sources hold out documents",
       [](Experiment& e) { ValidateOn(e, "held_out").mutable_sources(0)->set_validation_split(0.1); }},
      {"shuffle_window", "data.shuffle_window", "set data.shuffle = true too",
       [](Experiment& e) {
         e.mutable_data()->set_shuffle(false);
         e.mutable_data()->set_shuffle_window(100);
       }},
      {"shuffle_window", "data.shuffle_window", "random anyway",
       [](Experiment& e) {
         e.mutable_data()->mutable_sources(0)->set_corpus("synthetic");
         e.mutable_data()->set_shuffle_window(100);
       }},
      {"validation_has_sources", "validation.sources", "at least one source",
       [](Experiment& e) { e.mutable_validation()->set_enable(true); }},
      {"validation_has_sources", "validation.sources.0.weight", "only data.sources are drawn by weight",
       [](Experiment& e) { ValidateOn(e, "held_out").mutable_sources(0)->set_weight(2); }},
      {"validation_has_sources", "validation.steps", "never ends",
       [](Experiment& e) { ValidateOn(e, "synthetic").set_steps(-1); }},
      {"corpus_names", "validation.sources.1.corpus", "source already",
       [](Experiment& e) { ValidateOn(e, "held_out").add_sources()->set_corpus("held_out"); }},
      {"validation_shapes", "validation.seq_len", "above model.max_seq_len",
       [](Experiment& e) { ValidateOn(e, "held_out").set_seq_len(262144); }},
      {"validation_shapes", "validation.seq_len", "2044 is not divisible by 8 = tp 2 x 2 x cp 2",
       [](Experiment& e) {
         ValidateOn(e, "held_out").set_seq_len(2044);
         e.mutable_parallelism()->set_context_parallel_degree(2);
         e.mutable_parallelism()->set_tensor_parallel_degree(2);
       }},
      {"validation_shapes", "validation.local_batch_size", "pipeline_parallel_microbatch_size = 4",
       [](Experiment& e) {
         ValidateOn(e, "held_out").set_local_batch_size(6);
         e.mutable_parallelism()->set_pipeline_parallel_degree(2);
         e.mutable_parallelism()->set_pipeline_parallel_microbatch_size(4);
       }},
      {"validation_shapes", "validation.seq_len", "multiple of 16",
       [](Experiment& e) {
         ValidateOn(e, "held_out").set_seq_len(9);
         e.mutable_quantize()->mutable_linear()->mutable_float8()->set_recipe_name(
             config::Quantize::Float8::RECIPE_NAME_TENSORWISE);
       }},
      {"state_in_bfloat16", "optimizer.beta2", "0.999 is above 0.99",
       [](Experiment& e) {
         e.mutable_optimizer()->set_state_in_bfloat16(true);
         e.mutable_optimizer()->set_beta2(0.999);
       }},
      {"state_in_bfloat16", "optimizer.param_groups.0.beta1", "stands still",
       [](Experiment& e) {
         e.mutable_optimizer()->set_state_in_bfloat16(true);
         e.mutable_optimizer()->add_param_groups()->set_beta1(0.995);
       }},
      {"muon_groups", "optimizer.param_groups.0.eps", "no effect on Muon",
       [](Experiment& e) {
         config::ParamGroup& group = *e.mutable_optimizer()->add_param_groups();
         group.set_name(config::Optimizer::NAME_MUON);
         group.set_eps(1e-7);
       }},
  };
  return cases;
}

TEST(Rules, HoldForAValidExperiment) {
  ConfigErrors violations;
  CheckRules(Valid(), {}, violations);
  EXPECT_TRUE(violations.empty()) << violations.list()[0].message;
}

TEST(Rules, HeldOutDocumentsAreSourcesOfValidation) {
  Experiment experiment = Valid();
  experiment.mutable_validation()->set_enable(true);
  experiment.mutable_data()->mutable_sources(0)->set_validation_split(0.01);
  experiment.mutable_data()->set_shuffle_window(1000);
  ConfigErrors violations;
  CheckRules(experiment, {}, violations);
  EXPECT_TRUE(violations.empty()) << violations.list()[0].message;
}

// Each broken experiment gives exactly one error, from the rule that it is meant for.
TEST(Rules, FindWhatTheyAreFor) {
  for (const Case& broken : Cases()) {
    Experiment experiment = Valid();
    broken.breaks(experiment);
    ConfigErrors violations;
    for (const Rule& rule : CrossFieldRules()) {
      if (rule.name == broken.rule) rule.check(experiment, violations);
    }
    ASSERT_EQ(violations.list().size(), 1u) << broken.rule << " " << broken.message;
    EXPECT_EQ(violations.list()[0].path, broken.path);
    EXPECT_THAT(violations.list()[0].message, HasSubstr(broken.message));
  }
}

TEST(Rules, AllHaveACase) {
  std::set<std::string> with_case;
  for (const Case& broken : Cases()) with_case.insert(broken.rule);
  for (const Rule& rule : CrossFieldRules()) EXPECT_TRUE(with_case.count(std::string(rule.name)) > 0) << rule.name;
  EXPECT_EQ(with_case.size(), CrossFieldRules().size());
}

TEST(Rules, ReadFieldsThatExist) {
  for (const Rule& rule : CrossFieldRules()) {
    for (const std::string_view path : absl::StrSplit(rule.reads, ' ', absl::SkipEmpty())) {
      const google::protobuf::Descriptor* type = Experiment::descriptor();
      for (const std::string_view name : absl::StrSplit(path, '.')) {
        ASSERT_NE(type, nullptr) << rule.name << " " << path;
        const auto* field = type->FindFieldByName(name);
        ASSERT_NE(field, nullptr) << rule.name << " " << path;
        type = field->message_type();
      }
    }
  }
}

TEST(Rules, AreNotAskedAboutFieldsThatAreWrongAlready) {
  Experiment experiment = Valid();
  experiment.mutable_model()->set_n_kv_heads(5);
  ConfigErrors known, violations;
  known.Add("model.n_kv_heads", "is a string");
  CheckRules(experiment, known, violations);
  EXPECT_TRUE(violations.empty());
}

}  // namespace
}  // namespace titan
