#include "titan/checkpoint/hf_names.h"

#include <set>

#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"
#include "titan/plan/model_spec.h"

namespace titan {
namespace {

config::Model TinyModel(bool tied) {
  config::Model model;
  model.set_name(config::Model::FAMILY_LLAMA3);
  model.set_dim(8);
  model.set_n_layers(12);
  model.set_n_heads(2);
  model.set_n_kv_heads(1);
  model.set_head_dim(4);
  model.set_ffn_hidden_dim(16);
  model.set_vocab_size(32);
  model.set_enable_weight_tying(tied);
  return model;
}

TEST(HfNames, Llama3) {
  const HfNames names = HfNames::Of(TinyModel(false)).value();
  EXPECT_EQ(names.ToHf("layers.11.feed_forward.w3.weight"), "model.layers.11.mlp.up_proj.weight");
  EXPECT_EQ(names.ToTitan("model.layers.0.post_attention_layernorm.weight"), "layers.0.ffn_norm.weight");
  EXPECT_EQ(names.ToTitan("lm_head.weight"), "output.weight");
  EXPECT_TRUE(names.IsIgnored("model.layers.3.self_attn.rotary_emb.inv_freq"));
  EXPECT_FALSE(names.IsIgnored("lm_head.weight"));
}

TEST(HfNames, NothingElseMatches) {
  const HfNames names = HfNames::Of(TinyModel(false)).value();
  for (const char* name :
       {"", "model", "model.layers..mlp.up_proj.weight", "model.layers.01.mlp.up_proj.weight",
        "model.layers.1.mlp.up_proj.weight2", "model.layers.-1.mlp.up_proj.weight", "model.layers.1", "model.layers.",
        "xmodel.norm.weight", "model.layers.{N}.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.bias"}) {
    EXPECT_EQ(names.ToTitan(name), std::nullopt) << name;
    EXPECT_FALSE(names.IsIgnored(name)) << name;
  }
}

// The table has a row for every parameter that the model can have, and each row has its own name.
TEST(HfNames, CoverTheModelOneToOne) {
  for (const bool tied : {false, true}) {
    const config::Model model = TinyModel(tied);
    const HfNames names = HfNames::Of(model).value();
    const ModelSpec spec = BuildModelSpec(model).value();
    std::set<std::string> seen;
    size_t num_parameters = 0;
    for (const BlockSpec& block : spec.blocks) {
      for (const ParameterSpec& parameter : block.parameters) {
        const auto hf_name = names.ToHf(parameter.name);
        ASSERT_TRUE(hf_name.has_value()) << parameter.name;
        EXPECT_EQ(names.ToTitan(*hf_name), parameter.name);
        seen.insert(*hf_name);
        ++num_parameters;
      }
    }
    EXPECT_EQ(seen.size(), num_parameters);
  }
}

TEST(HfNames, OtherFamiliesAreRefused) {
  config::Model model = TinyModel(false);
  model.set_name(config::Model::FAMILY_QWEN3);
  EXPECT_EQ(HfNames::Of(model).status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace titan
