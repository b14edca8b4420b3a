// A model: its blocks in order. Each family has a file of its own, listed in model.cc; weights live elsewhere
// (titan/train owns the parameters), so that one Model object serves every rank, stage and precision.
//
//   absl::StatusOr<std::unique_ptr<Model>> model = Model::Create(experiment.model());
//   BatchContext context = (*model)->MakeContext(positions, {.compute_dtype = at::kFloat});

#ifndef TITAN_MODEL_MODEL_H_
#define TITAN_MODEL_MODEL_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/model/block.h"
#include "titan/model/context.h"

// A generated message: its header is expensive, so that only the sources that look inside include it.
namespace titan::config {
class Model;
class Quantize;
}  // namespace titan::config

namespace titan {

class Model {
 public:
  virtual ~Model() = default;

  // InvalidArgument for a family that is not built yet. Without `quantize` every product is computed in the dtype of
  // the weights.
  static absl::StatusOr<std::unique_ptr<Model>> Create(const config::Model& config, const config::Quantize& quantize);
  static absl::StatusOr<std::unique_ptr<Model>> Create(const config::Model& config);

  const ModelSpec& spec() const { return spec_; }
  // embedding, layers, head; the last one is head().
  const std::vector<std::unique_ptr<Block>>& blocks() const { return blocks_; }
  const HeadBlock& head() const;

  // `positions` (B, S) int64 of whole sequences, on the device of the run.
  virtual BatchContext MakeContext(const at::Tensor& positions, const ContextOptions& options) const = 0;

 protected:
  explicit Model(ModelSpec spec) : spec_(std::move(spec)) {}

  ModelSpec spec_;
  std::vector<std::unique_ptr<Block>> blocks_;
};

}  // namespace titan

#endif  // TITAN_MODEL_MODEL_H_
