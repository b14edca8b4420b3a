#include "titan/checkpoint/hf_config.h"

#include "gtest/gtest.h"
#include "titan/base/file.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

std::string Fixture(const std::string& name) {
  return ReadFile("titan/checkpoint/testdata/" + name + "/config.json").value();
}

constexpr char kMinimal[] =
    R"({"model_type":"llama","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":16,)"
    R"("vocab_size":32})";

std::string Minimal(const std::string& more) { return std::string(kMinimal, sizeof(kMinimal) - 2) + "," + more + "}"; }

TEST(HfConfig, PublishedForm) {
  const auto model = ModelFromHfConfig(Fixture("llama3_1"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->name(), config::Model::FAMILY_LLAMA3);
  EXPECT_EQ(model->dim(), 64);
  EXPECT_EQ(model->n_layers(), 2);
  EXPECT_EQ(model->n_heads(), 4);
  EXPECT_EQ(model->n_kv_heads(), 2);
  EXPECT_EQ(model->head_dim(), 16);
  EXPECT_EQ(model->ffn_hidden_dim(), 120);
  EXPECT_EQ(model->vocab_size(), 384);
  EXPECT_EQ(model->norm_eps(), 1e-5);
  EXPECT_FALSE(model->enable_weight_tying());
  EXPECT_EQ(model->rope().theta(), 500000);
  EXPECT_EQ(model->rope().scaling_type(), config::Rope::SCALING_TYPE_LLAMA3);
  EXPECT_EQ(model->rope().scaling_factor(), 8);
  EXPECT_EQ(model->rope().low_freq_factor(), 1);
  EXPECT_EQ(model->rope().high_freq_factor(), 4);
  EXPECT_EQ(model->rope().original_max_seq_len(), 64);
}

TEST(HfConfig, FormOfTransformers5) {
  const auto model = ModelFromHfConfig(Fixture("llama3_2_tied"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->enable_weight_tying());
  EXPECT_EQ(model->rope().theta(), 500000);
  EXPECT_EQ(model->rope().scaling_type(), config::Rope::SCALING_TYPE_LLAMA3);
  EXPECT_EQ(model->rope().scaling_factor(), 32);
  EXPECT_EQ(model->rope().original_max_seq_len(), 48);
}

TEST(HfConfig, AbsentKeysHaveTheLibrarysDefaults) {
  const auto plain = ModelFromHfConfig(Fixture("llama_plain"));
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->head_dim(), 8);
  EXPECT_EQ(plain->norm_eps(), 1e-2);
  EXPECT_EQ(plain->rope().theta(), 10000);
  EXPECT_EQ(plain->rope().scaling_type(), config::Rope::SCALING_TYPE_NONE);

  const auto minimal = ModelFromHfConfig(kMinimal);
  ASSERT_TRUE(minimal.ok()) << minimal.status();
  EXPECT_EQ(minimal->n_kv_heads(), 2);
  EXPECT_EQ(minimal->head_dim(), 4);
  EXPECT_EQ(minimal->norm_eps(), 1e-6);
  EXPECT_EQ(minimal->rope().theta(), 10000);
  EXPECT_FALSE(minimal->enable_weight_tying());
  EXPECT_EQ(ModelFromHfConfig(Minimal(R"("num_key_value_heads":null,"head_dim":null,"rope_scaling":null)"))->head_dim(),
            4);
}

TEST(HfConfig, OlderKeyOfTheScalingType) {
  const auto model = ModelFromHfConfig(
      Minimal(R"("rope_scaling":{"type":"llama3","factor":2,"low_freq_factor":1.5,"high_freq_factor":3,)"
              R"("original_max_position_embeddings":99})"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->rope().scaling_type(), config::Rope::SCALING_TYPE_LLAMA3);
  EXPECT_EQ(model->rope().low_freq_factor(), 1.5);
}

TEST(HfConfig, WrittenConfigReadsTheSame) {
  for (const char* name : {"llama3_1", "llama3_2_tied", "llama_plain", "llama_trace", "llama_trace_tied"}) {
    const config::Model model = ModelFromHfConfig(Fixture(name)).value();
    const auto text = HfConfigOf(model, "bfloat16", 512);
    ASSERT_TRUE(text.ok()) << text.status();
    const auto again = ModelFromHfConfig(*text);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->SerializeAsString(), model.SerializeAsString()) << name << *text;
  }
}

TEST(HfConfig, RefusesWhatItWouldGetWrong) {
  for (const char* more :
       {R"("hidden_act":"gelu")", R"("attention_bias":true)", R"("mlp_bias":true)", R"("partial_rotary_factor":0.5)",
        R"("head_dim":3)", R"("num_key_value_heads":3)", R"("num_key_value_heads":0)", R"("head_dim":1.5)",
        R"("rms_norm_eps":"1e-5")", R"("rope_scaling":"llama3")", R"("tie_word_embeddings":1)", R"("rms_norm_eps":0)",
        R"("head_dim":1e30)", R"("quantization_config":"fp8")", R"("hidden_act":1)"}) {
    const auto model = ModelFromHfConfig(Minimal(more));
    EXPECT_TRUE(absl::IsInvalidArgument(model.status())) << more << model.status();
    const std::string key = std::string(more).substr(1, std::string(more).find('"', 1) - 1);
    EXPECT_NE(model.status().message().find(key), std::string::npos) << more << model.status();
  }
  EXPECT_FALSE(ModelFromHfConfig("[]").ok());
  EXPECT_FALSE(ModelFromHfConfig(R"({"model_type":"llama","model_type":"llama"})").ok());
}

TEST(HfConfig, RefusesOtherScalings) {
  const auto yarn = ModelFromHfConfig(Minimal(R"("rope_scaling":{"rope_type":"yarn","factor":4})"));
  EXPECT_NE(yarn.status().message().find("yarn"), std::string::npos) << yarn.status();
  const auto incomplete = ModelFromHfConfig(Minimal(R"("rope_scaling":{"rope_type":"llama3","factor":4})"));
  for (const char* key : {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    EXPECT_NE(incomplete.status().message().find(key), std::string::npos) << incomplete.status();
  }
}

TEST(HfConfig, AllErrorsAtOnce) {
  const auto model = ModelFromHfConfig(R"({"model_type":"mamba","hidden_size":"8","vocab_size":-1})");
  ASSERT_FALSE(model.ok());
  for (const char* key :
       {"model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"}) {
    EXPECT_NE(model.status().message().find(key), std::string::npos) << key << model.status();
  }
}

}  // namespace
}  // namespace titan
