// What a model is made of, as data: blocks, their parameters, how each is initialised and may be split. The plan
// counts with it, the trainer builds with it, checkpoints name with it; so the three cannot disagree. No LibTorch here.
//
//   absl::StatusOr<ModelSpec> spec = BuildModelSpec(experiment.model());
//   spec->num_parameters();         // 6'163'712 for the debug model
//   spec->blocks[1].parameters[0];  // layers.0.attention_norm.weight (256)

#ifndef TITAN_PLAN_MODEL_SPEC_H_
#define TITAN_PLAN_MODEL_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

// A generated message: its header is expensive, so that only the sources that look inside include it.
namespace titan::config {
class Model;
}

namespace titan {

// The distribution of a parameter's initial values; titan/model/init.h draws from it.
struct Init {
  enum class Kind { kOnes, kNormal, kTruncatedNormal };
  Kind kind = Kind::kOnes;
  double stddev = 0;
  // kTruncatedNormal: values lie in [-bound, bound].
  double bound = 0;
};

// How tensor parallelism splits a parameter.
enum class TensorSplit {
  kReplicated,  // every rank holds all of it (norms)
  kColumn,      // by rows of the (out, in) matrix: each rank computes part of the output features
  kRow,         // by columns of the (out, in) matrix: each rank consumes part of the input features
  kVocab,       // by vocabulary rows (embedding and output projection)
};

struct ParameterSpec {
  std::string name;            // unique in the model, torchtitan's name: "layers.0.attention.wq.weight"
  std::vector<int64_t> shape;  // matrices are (out, in)
  Init init;
  TensorSplit split = TensorSplit::kReplicated;

  int64_t num_elements() const;
};

enum class BlockKind { kEmbedding, kLayer, kHead };

// The unit of the walk, of FSDP, recomputation and pipelining: the embedding, one layer, or final norm + output.
struct BlockSpec {
  BlockKind kind = BlockKind::kLayer;
  std::string name;  // "tok_embeddings", "layers.0", "head"
  // Parameters that this block owns, in the fixed order in which its computation takes them.
  std::vector<ParameterSpec> parameters;
  // Names of parameters that it uses and an earlier block owns, after its own: {"tok_embeddings.weight"} in a tied
  // head.
  std::vector<std::string> shared_parameters;

  int64_t num_parameters() const;  // elements of the parameters that it owns
};

struct ModelSpec {
  std::vector<BlockSpec> blocks;  // embedding, layer 0..L-1, head

  int64_t num_parameters() const;            // each counted once
  int64_t num_embedding_parameters() const;  // of the token embedding
};

// The blocks of `model`. InvalidArgument if the family is not built yet. Expects a message that passed the strict
// reader (n_kv_heads and head_dim filled in).
absl::StatusOr<ModelSpec> BuildModelSpec(const config::Model& model);

// Floating point operations of one token, forward and backward, by torchtitan's convention, which counts full (not
// causal) attention: 6 (N - N_embedding) + 6 L H (d_qk + d_v) seq_len; with tied weights N is not reduced.
double FlopsPerToken(const config::Model& model, const ModelSpec& spec, int64_t seq_len);

}  // namespace titan

#endif  // TITAN_PLAN_MODEL_SPEC_H_
