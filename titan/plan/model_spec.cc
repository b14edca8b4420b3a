#include "titan/plan/model_spec.h"

#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

// Initial values as torchtitan's: see README.md of this room.
constexpr double kStddev = 0.02;
constexpr double kBound = 2.0;

Init Ones() { return {.kind = Init::Kind::kOnes, .stddev = 0, .bound = 0}; }
Init Normal(double stddev) { return {.kind = Init::Kind::kNormal, .stddev = stddev, .bound = 0}; }
Init TruncatedNormal(double stddev, double bound) {
  return {.kind = Init::Kind::kTruncatedNormal, .stddev = stddev, .bound = bound};
}
// Logits of unit variance for a normalised input.
Init OutputInit(int64_t dim) {
  const double stddev = 1.0 / std::sqrt(static_cast<double>(dim));
  return TruncatedNormal(stddev, 3 * stddev);
}

ParameterSpec NormWeight(std::string name, int64_t dim) {
  return {.name = std::move(name), .shape = {dim}, .init = Ones(), .split = TensorSplit::kReplicated};
}

BlockSpec Llama3Embedding(const config::Model& model) {
  // A tied weight is the output projection too: with N(0, 1) the logits would explode.
  const Init init = model.enable_weight_tying() ? OutputInit(model.dim()) : Normal(1.0);
  return {.kind = BlockKind::kEmbedding,
          .name = "tok_embeddings",
          .parameters = {{.name = "tok_embeddings.weight",
                          .shape = {model.vocab_size(), model.dim()},
                          .init = init,
                          .split = TensorSplit::kVocab}},
          .shared_parameters = {}};
}

BlockSpec Llama3Layer(const config::Model& model, int64_t layer) {
  const std::string name = absl::StrCat("layers.", layer);
  const int64_t dim = model.dim();
  const int64_t query_dim = model.n_heads() * model.head_dim();
  const int64_t kv_dim = model.n_kv_heads() * model.head_dim();
  const int64_t ffn_dim = model.ffn_hidden_dim();
  const Init in = TruncatedNormal(kStddev, kBound);
  // What is added to the residual stream starts smaller in later layers.
  const Init out = TruncatedNormal(kStddev / std::sqrt(2.0 * static_cast<double>(layer + 1)), kBound);

  BlockSpec block{.kind = BlockKind::kLayer, .name = name, .parameters = {}, .shared_parameters = {}};
  const auto add_matrix = [&](const char* suffix, int64_t rows, int64_t columns, const Init& init, TensorSplit split) {
    block.parameters.push_back(
        {.name = absl::StrCat(name, suffix), .shape = {rows, columns}, .init = init, .split = split});
  };
  block.parameters.push_back(NormWeight(absl::StrCat(name, ".attention_norm.weight"), dim));
  add_matrix(".attention.wq.weight", query_dim, dim, in, TensorSplit::kColumn);
  add_matrix(".attention.wk.weight", kv_dim, dim, in, TensorSplit::kColumn);
  add_matrix(".attention.wv.weight", kv_dim, dim, in, TensorSplit::kColumn);
  add_matrix(".attention.wo.weight", dim, query_dim, out, TensorSplit::kRow);
  block.parameters.push_back(NormWeight(absl::StrCat(name, ".ffn_norm.weight"), dim));
  add_matrix(".feed_forward.w1.weight", ffn_dim, dim, in, TensorSplit::kColumn);
  add_matrix(".feed_forward.w2.weight", dim, ffn_dim, out, TensorSplit::kRow);
  add_matrix(".feed_forward.w3.weight", ffn_dim, dim, out, TensorSplit::kColumn);
  return block;
}

BlockSpec Llama3Head(const config::Model& model) {
  BlockSpec block{.kind = BlockKind::kHead,
                  .name = "head",
                  .parameters = {NormWeight("norm.weight", model.dim())},
                  .shared_parameters = {}};
  if (model.enable_weight_tying()) {
    block.shared_parameters.push_back("tok_embeddings.weight");
  } else {
    block.parameters.push_back({.name = "output.weight",
                                .shape = {model.vocab_size(), model.dim()},
                                .init = OutputInit(model.dim()),
                                .split = TensorSplit::kVocab});
  }
  return block;
}

ModelSpec Llama3(const config::Model& model) {
  ModelSpec spec;
  spec.blocks.push_back(Llama3Embedding(model));
  for (int64_t layer = 0; layer < model.n_layers(); ++layer) spec.blocks.push_back(Llama3Layer(model, layer));
  spec.blocks.push_back(Llama3Head(model));
  return spec;
}

}  // namespace

int64_t ParameterSpec::num_elements() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

int64_t BlockSpec::num_parameters() const {
  int64_t count = 0;
  for (const ParameterSpec& parameter : parameters) count += parameter.num_elements();
  return count;
}

int64_t ModelSpec::num_parameters() const {
  int64_t count = 0;
  for (const BlockSpec& block : blocks) count += block.num_parameters();
  return count;
}

int64_t ModelSpec::num_embedding_parameters() const {
  int64_t count = 0;
  for (const BlockSpec& block : blocks) {
    if (block.kind == BlockKind::kEmbedding) count += block.num_parameters();
  }
  return count;
}

absl::StatusOr<ModelSpec> BuildModelSpec(const config::Model& model) {
  if (model.n_kv_heads() <= 0 || model.head_dim() <= 0) {
    return absl::InvalidArgumentError(
        "model.n_kv_heads and model.head_dim are not set; read the experiment with titan/config/reader.h, which "
        "fills them in");
  }
  switch (model.name()) {
    case config::Model::FAMILY_LLAMA3:
      return Llama3(model);
    default:
      return absl::InvalidArgumentError(absl::StrCat("model.name: the family ",
                                                     config::Model::Family_Name(model.name()),
                                                     " is not supported yet; use \"llama3\""));
  }
}

double FlopsPerToken(const config::Model& model, const ModelSpec& spec, int64_t seq_len) {
  // A token's embedding is a look-up; when the weight is tied, its second use is a matrix product.
  const int64_t looked_up = model.enable_weight_tying() ? 0 : spec.num_embedding_parameters();
  const double matrices = 6.0 * static_cast<double>(spec.num_parameters() - looked_up);
  const double head_dims = 2.0 * static_cast<double>(model.head_dim());  // d_qk + d_v
  return matrices + 6.0 * static_cast<double>(model.n_layers()) * static_cast<double>(model.n_heads()) * head_dims *
                        static_cast<double>(seq_len);
}

}  // namespace titan
