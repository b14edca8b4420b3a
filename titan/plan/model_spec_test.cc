#include "titan/plan/model_spec.h"

#include <cmath>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

config::Model Llama3(int64_t dim, int64_t layers, int64_t heads, int64_t kv_heads, int64_t ffn, int64_t vocab,
                     bool tied) {
  config::Model model;
  model.set_name(config::Model::FAMILY_LLAMA3);
  model.set_dim(dim);
  model.set_n_layers(layers);
  model.set_n_heads(heads);
  model.set_n_kv_heads(kv_heads);
  model.set_head_dim(dim / heads);
  model.set_ffn_hidden_dim(ffn);
  model.set_vocab_size(vocab);
  model.set_enable_weight_tying(tied);
  return model;
}

config::Model Debug() { return Llama3(256, 6, 16, 16, 768, 2048, false); }

int64_t Count(const config::Model& model) { return BuildModelSpec(model).value().num_parameters(); }

// The sizes that the model cards state.
TEST(ModelSpecTest, CountsAreThePublishedOnes) {
  EXPECT_EQ(Count(Debug()), 6'163'712);
  EXPECT_EQ(Count(Llama3(2048, 16, 32, 8, 8192, 128256, true)), 1'235'814'400);
  EXPECT_EQ(Count(Llama3(3072, 28, 24, 8, 8192, 128256, true)), 3'212'749'824);
  EXPECT_EQ(Count(Llama3(4096, 32, 32, 8, 14336, 128256, false)), 8'030'261'248);
  EXPECT_EQ(Count(Llama3(8192, 80, 64, 8, 28672, 128256, false)), 70'553'706'496);
  EXPECT_EQ(Count(Llama3(16384, 126, 128, 8, 53248, 128256, false)), 405'853'388'800);
}

TEST(ModelSpecTest, BlocksInOrder) {
  const ModelSpec spec = BuildModelSpec(Debug()).value();
  ASSERT_EQ(spec.blocks.size(), 8);
  EXPECT_EQ(spec.blocks.front().name, "tok_embeddings");
  EXPECT_EQ(spec.blocks.front().kind, BlockKind::kEmbedding);
  EXPECT_EQ(spec.blocks[1].name, "layers.0");
  EXPECT_EQ(spec.blocks[6].name, "layers.5");
  EXPECT_EQ(spec.blocks[6].kind, BlockKind::kLayer);
  EXPECT_EQ(spec.blocks.back().name, "head");
  EXPECT_EQ(spec.blocks.back().kind, BlockKind::kHead);
  EXPECT_EQ(spec.num_embedding_parameters(), 2048 * 256);
}

TEST(ModelSpecTest, ParametersOfALayer) {
  const ModelSpec spec = BuildModelSpec(Llama3(64, 3, 8, 2, 160, 512, false)).value();
  std::vector<std::string> names;
  std::vector<std::vector<int64_t>> shapes;
  for (const ParameterSpec& parameter : spec.blocks[2].parameters) {
    names.push_back(parameter.name);
    shapes.push_back(parameter.shape);
  }
  EXPECT_THAT(
      names, ElementsAre("layers.1.attention_norm.weight", "layers.1.attention.wq.weight",
                         "layers.1.attention.wk.weight", "layers.1.attention.wv.weight", "layers.1.attention.wo.weight",
                         "layers.1.ffn_norm.weight", "layers.1.feed_forward.w1.weight",
                         "layers.1.feed_forward.w2.weight", "layers.1.feed_forward.w3.weight"));
  using Shape = std::vector<int64_t>;
  EXPECT_THAT(shapes, ElementsAre(Shape{64}, Shape{64, 64}, Shape{16, 64}, Shape{16, 64}, Shape{64, 64}, Shape{64},
                                  Shape{160, 64}, Shape{64, 160}, Shape{160, 64}));
}

TEST(ModelSpecTest, HeadDimNeedNotBeDimOverHeads) {
  config::Model model = Llama3(64, 1, 4, 2, 128, 512, false);
  model.set_head_dim(32);
  const ModelSpec spec = BuildModelSpec(model).value();
  EXPECT_THAT(spec.blocks[1].parameters[1].shape, ElementsAre(128, 64));  // wq
  EXPECT_THAT(spec.blocks[1].parameters[2].shape, ElementsAre(64, 64));   // wk
  EXPECT_THAT(spec.blocks[1].parameters[4].shape, ElementsAre(64, 128));  // wo
}

TEST(ModelSpecTest, InitialValues) {
  const ModelSpec spec = BuildModelSpec(Debug()).value();
  const Init& embedding = spec.blocks[0].parameters[0].init;
  EXPECT_EQ(embedding.kind, Init::Kind::kNormal);
  EXPECT_EQ(embedding.stddev, 1.0);

  const std::vector<ParameterSpec>& layer2 = spec.blocks[3].parameters;
  EXPECT_EQ(layer2[0].init.kind, Init::Kind::kOnes);
  EXPECT_EQ(layer2[5].init.kind, Init::Kind::kOnes);
  for (const int i : {1, 2, 3, 6}) {  // wq, wk, wv, w1
    EXPECT_EQ(layer2[i].init.kind, Init::Kind::kTruncatedNormal);
    EXPECT_EQ(layer2[i].init.stddev, 0.02) << layer2[i].name;
    EXPECT_EQ(layer2[i].init.bound, 2.0);
  }
  for (const int i : {4, 7, 8}) {  // wo, w2, w3
    EXPECT_DOUBLE_EQ(layer2[i].init.stddev, 0.02 / std::sqrt(6.0)) << layer2[i].name;
    EXPECT_EQ(layer2[i].init.bound, 2.0);
  }

  const Init& output = spec.blocks.back().parameters[1].init;
  EXPECT_EQ(output.kind, Init::Kind::kTruncatedNormal);
  EXPECT_EQ(output.stddev, 1.0 / 16);
  EXPECT_EQ(output.bound, 3.0 / 16);
}

TEST(ModelSpecTest, TiedHeadSharesTheEmbedding) {
  const ModelSpec spec = BuildModelSpec(Llama3(256, 2, 4, 4, 768, 2048, true)).value();
  const BlockSpec& head = spec.blocks.back();
  ASSERT_EQ(head.parameters.size(), 1);
  EXPECT_EQ(head.parameters[0].name, "norm.weight");
  EXPECT_THAT(head.shared_parameters, ElementsAre("tok_embeddings.weight"));
  EXPECT_EQ(spec.blocks[0].parameters[0].init.kind, Init::Kind::kTruncatedNormal);
  EXPECT_EQ(spec.blocks[0].parameters[0].init.stddev, 1.0 / 16);
}

TEST(ModelSpecTest, NamesAreUnique) {
  const ModelSpec spec = BuildModelSpec(Debug()).value();
  std::set<std::string> names;
  for (const BlockSpec& block : spec.blocks) {
    for (const ParameterSpec& parameter : block.parameters) {
      EXPECT_TRUE(names.insert(parameter.name).second) << parameter.name;
    }
  }
  EXPECT_EQ(names.size(), 1 + 6 * 9 + 2);
}

TEST(ModelSpecTest, TensorSplits) {
  const ModelSpec spec = BuildModelSpec(Debug()).value();
  EXPECT_EQ(spec.blocks[0].parameters[0].split, TensorSplit::kVocab);
  EXPECT_EQ(spec.blocks.back().parameters[1].split, TensorSplit::kVocab);
  std::vector<TensorSplit> splits;
  for (const ParameterSpec& parameter : spec.blocks[1].parameters) splits.push_back(parameter.split);
  EXPECT_THAT(splits, ElementsAre(TensorSplit::kReplicated, TensorSplit::kColumn, TensorSplit::kColumn,
                                  TensorSplit::kColumn, TensorSplit::kRow, TensorSplit::kReplicated,
                                  TensorSplit::kColumn, TensorSplit::kRow, TensorSplit::kColumn));
}

TEST(ModelSpecTest, FlopsPerToken) {
  const config::Model debug = Debug();
  EXPECT_EQ(FlopsPerToken(debug, BuildModelSpec(debug).value(), 2048), 71'585'280);
  // Tied: the embedding's elements count, as the output projection.
  const config::Model tied = Llama3(256, 6, 16, 16, 768, 2048, true);
  EXPECT_EQ(FlopsPerToken(tied, BuildModelSpec(tied).value(), 2048), 71'585'280);
  const config::Model llama8b = Llama3(4096, 32, 32, 8, 14336, 128256, false);
  EXPECT_NEAR(FlopsPerToken(llama8b, BuildModelSpec(llama8b).value(), 8192), 57.9e9, 0.05e9);
}

TEST(ModelSpecTest, OtherFamiliesAreRefused) {
  config::Model model = Debug();
  model.set_name(config::Model::FAMILY_GPT_OSS);
  const absl::Status status = BuildModelSpec(model).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("FAMILY_GPT_OSS is not supported yet"));
}

TEST(ModelSpecTest, AMessageThatTheReaderDidNotFinishIsRefused) {
  config::Model model = Debug();
  model.clear_head_dim();
  EXPECT_EQ(BuildModelSpec(model).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace titan
