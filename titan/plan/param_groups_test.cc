#include "titan/plan/param_groups.h"

#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

ModelSpec Spec() {
  config::Model model;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"pb(name: FAMILY_LLAMA3
           dim: 256
           n_layers: 2
           n_heads: 16
           n_kv_heads: 16
           head_dim: 16
           ffn_hidden_dim: 768
           vocab_size: 2048)pb",
      &model));
  return BuildModelSpec(model).value();
}

config::Optimizer Optimizer(const std::string& fields) {
  config::Optimizer optimizer;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(fields, &optimizer));
  return optimizer;
}

std::string Problem(const std::string& fields) {
  const absl::StatusOr<ParamGroups> groups = ResolveParamGroups(Optimizer(fields), Spec());
  EXPECT_EQ(groups.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(groups.status().message());
}

constexpr char kMuon[] = R"pb(
  name: NAME_MUON
  lr: 0.02
  param_groups { pattern: "norm" weight_decay: 0 lr: 0.001 }
  param_groups { pattern: "^(tok_embeddings|output|norm)[.]" lr: 0.003 beta2: 0.99 })pb";

TEST(ParamGroups, TheFirstThatIsFoundTakesAParameter) {
  const ParamGroups groups = ResolveParamGroups(Optimizer(kMuon), Spec()).value();
  ASSERT_EQ(groups.groups.size(), 3);
  EXPECT_EQ(groups.index_of.size(), 21);
  EXPECT_EQ(groups.index_of.at("norm.weight"), 0);
  EXPECT_EQ(groups.index_of.at("layers.1.ffn_norm.weight"), 0);
  EXPECT_EQ(groups.index_of.at("output.weight"), 1);
  EXPECT_EQ(groups.index_of.at("layers.1.attention.wo.weight"), 2);
  const ParamGroupSettings& norms = groups.Of("layers.0.attention_norm.weight");
  EXPECT_FALSE(norms.is_muon);
  EXPECT_EQ(norms.lr, 0.001);
  EXPECT_EQ(norms.weight_decay, 0);
  EXPECT_EQ(norms.beta2, 0.95) << "the optimizer's own";
  EXPECT_EQ(groups.Of("output.weight").beta2, 0.99);
  EXPECT_EQ(groups.Of("output.weight").weight_decay, 0.1);
  EXPECT_TRUE(groups.Of("layers.1.attention.wo.weight").is_muon);
  EXPECT_EQ(groups.Of("layers.1.attention.wo.weight").lr, 0.02);
}

TEST(ParamGroups, WithoutGroupsAllHaveTheOptimizersOwn) {
  const ParamGroups groups = ResolveParamGroups(Optimizer("lr: 0.5"), Spec()).value();
  EXPECT_EQ(groups.groups.size(), 1);
  EXPECT_EQ(groups.Of("norm.weight").lr, 0.5);
}

TEST(ParamGroups, RefusesPatternsThatCannotBeMeant) {
  EXPECT_THAT(
      Problem(R"pb(param_groups { pattern: "layers" }
                   param_groups { pattern: "layers.*wq" }
                   param_groups { pattern: "(" }
                   param_groups { pattern: "embed_tokens" })pb"),
      AllOf(HasSubstr("optimizer.param_groups.1.pattern: \"layers.*wq\" is found in no parameter that an earlier"),
            HasSubstr("optimizer.param_groups.2.pattern: \"(\" is no regular expression"),
            HasSubstr("optimizer.param_groups.3.pattern: \"embed_tokens\" is found in no parameter")));
}

TEST(ParamGroups, MuonTakesMatricesOnly) {
  EXPECT_THAT(
      Problem("name: NAME_MUON"),
      AllOf(HasSubstr("optimizer.name: Muon takes matrices, but layers.0.attention_norm.weight has the shape (256)"),
            HasSubstr("but norm.weight"), HasSubstr("name: \"AdamW\"")));
  EXPECT_THAT(Problem(R"pb(param_groups { pattern: "ffn" name: NAME_MUON })pb"),
              HasSubstr("optimizer.param_groups.0.pattern: Muon takes matrices, but layers.0.ffn_norm.weight"));
}

TEST(ParamGroups, SquaresAreKeptForWhatAdamWHas) {
  const ModelSpec spec = Spec();
  const ParamGroups muon = ResolveParamGroups(Optimizer(kMuon), spec).value();
  const ParamGroups adamw = ResolveParamGroups(Optimizer(""), spec).value();
  for (const int64_t ranks : {1, 4}) {
    const UnitLayout layer = LayOutUnit(spec.blocks[1], 1, ranks).value();
    const UnitLayout head = LayOutUnit(spec.blocks[3], 1, ranks).value();
    EXPECT_EQ(NumSquares(spec.blocks[3], head, muon, 0), head.shard_size);
    for (int64_t rank = 0; rank < ranks; ++rank) {
      EXPECT_EQ(NumSquares(spec.blocks[1], layer, adamw, rank), layer.shard_size);
      EXPECT_EQ(NumSquares(spec.blocks[1], layer, muon, rank), rank == 0 ? 512 : 0) << "two norms";
    }
  }
}

}  // namespace
}  // namespace titan
