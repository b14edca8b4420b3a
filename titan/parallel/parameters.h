// The parameters of a model on one rank: masters, what the blocks compute with, and the gradients of a step; sharded
// over the ranks of the mesh (FSDP: Zhao et al. 2023, arXiv:2304.11277), replicated (DDP), or both (HSDP).
//
//   auto parameters = Parameters::Create(model.spec(), groups, options, [&](const ParameterSpec& spec) { ... });
//   (*parameters)->BeginStep(num_microbatches);
//   ForwardBackward(model, **parameters, microbatch, 1.0 / valid_tokens, recompute);  // once per microbatch
//   (*parameters)->FinishGradients();                                                 // waits for what still travels
//   optimizer.Update((*parameters)->gradients(), lr, scale, (*parameters)->copies());  // changes masters and copies
//   (*parameters)->FinishUpdate();                                                     // and so what is gathered
//
// A unit is what one block owns. Its parameters (of tensor parallelism this rank's parts) lie one after the other in a
// flat vector, first those that tensor parallelism replicates; rank r of the n ranks that share the unit (dp_shard x
// cp) keeps the r-th n-th of it: masters, gradients, optimizer state. The weights of a block are views into the vector,
// which is gathered in the compute dtype when the walk asks for it, and whose memory is given back when the walk has
// passed. Nothing is copied in or out around the gather. On one rank the vector is the shard itself.
//
// Weights that products take in float8 may travel so (torchao's float8 all-gather): after every update each rank
// quantises its part of them, by the largest magnitudes of the whole weights, which all ranks find together. Such a
// unit is gathered in two pieces: what comes before its float8 weights in the compute dtype, the rest as bytes.
//
// With `offload`, shards live in the memory of the host: masters, compute copies, and the gradients once they are
// reduced. A unit's compute copy goes to the device before it is gathered, beside what the device computes.

#ifndef TITAN_PARALLEL_PARAMETERS_H_
#define TITAN_PARALLEL_PARAMETERS_H_

#include <ATen/core/Tensor.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/parallel/copy_stream.h"
#include "titan/parallel/groups.h"
#include "titan/parallel/walk.h"
#include "titan/plan/model_spec.h"
#include "titan/plan/unit_layout.h"

namespace titan {

class Parameters : public BlockParameters {
 public:
  struct Options {
    at::Device device = at::kCPU;
    at::ScalarType dtype = at::kFloat;          // of masters and gradients, and of what is reduced
    at::ScalarType compute_dtype = at::kFloat;  // of what the blocks see, and of what is gathered
    // Gives the gathered weights back after forward and gathers them again for backward. After a step's last backward
    // they are given back in any case.
    bool reshard_after_forward = true;
    // Reduces the gradients of every microbatch, and so keeps only this rank's part of them between microbatches.
    // Otherwise they are added up whole and reduced once a step: less traffic, more memory.
    bool reduce_every_microbatch = false;
    // Each rank of tensor parallelism sees only its part of the tokens between blocks: the gradients of parameters that
    // it does not split are summands.
    bool sequence_parallel = true;
    // Keeps masters, compute copies and reduced gradients in the memory of the host, whatever the device.
    bool offload = false;
    // Every step's gradients lie where the last step's lay, as recorded work wants it
    // (titan/train/microbatch_graphs.h). Not for sharded parameters, whose whole gradients are given back as soon as
    // they are reduced.
    bool keep_gradient_memory = false;
    // Of each block of the spec, of each of its own parameters: whether products take it in float8. Empty: none. A unit
    // whose float8 weights are not its last ones travels in the compute dtype all the same.
    std::vector<std::vector<bool>> float8_weights = {};
    // One entry per block of the spec: whether this rank walks it (a pipeline's stages). Empty: all.
    std::vector<bool> owned_blocks = {};
  };
  // The initial value of a parameter: a tensor of its shape, of any floating dtype, on any device.
  using InitialValue = std::function<absl::StatusOr<at::Tensor>(const ParameterSpec&)>;

  // A run of consecutive elements that this rank keeps of one parameter.
  struct Piece {
    std::string name;
    std::vector<int64_t> shape;  // of the whole parameter
    TensorSplit split = TensorSplit::kReplicated;
    std::vector<int64_t> local_shape;  // of this rank's part of it by tensor parallelism
    int64_t begin = 0, end = 0;        // the elements of that part, row by row, that are kept here; may be none
    size_t unit = 0;                   // index into masters()
    int64_t start = 0;                 // of the parameter in the unit's flat vector
    int64_t offset = 0;                // of the first of them in the unit's shard
  };

  // Asks for the values one by one, so that never more than one of them exists besides the masters. `groups` must
  // outlive the result.
  static absl::StatusOr<std::unique_ptr<Parameters>> Create(const ModelSpec& spec, const ParallelGroups& groups,
                                                            const Options& options, const InitialValue& initial_value);

  // One entry per unit of this rank: flat, of Options::dtype; with `offload` on the CPU.
  const std::vector<at::Tensor>& masters() const { return masters_; }
  // What is computed with, where its dtype is not that of the masters: rounded masters, like masters(). Else empty. Who
  // changes the masters changes these, too, or calls RoundMasters.
  std::vector<at::Tensor> copies() const;
  void RoundMasters();
  // Sums over the step's microbatches and all ranks, like masters(). After FinishGradients.
  const std::vector<at::Tensor>& gradients() const { return gradients_; }
  // In the order of the spec; a shared parameter once.
  const std::vector<Piece>& pieces() const { return pieces_; }
  // What a piece is of a tensor that is laid out like a master (a master, a gradient, a state of the optimizer): a
  // view, in the parameter's shape if the piece is all of it, else flat.
  at::Tensor View(const Piece& piece, const std::vector<at::Tensor>& units) const;
  // Elements of a unit's shard, from its beginning, that other ranks of tensor parallelism hold, too.
  int64_t num_replicated(size_t unit) const;

  // Forgets the gradients; AddGradients will be called `num_microbatches` times for each block.
  void BeginStep(int64_t num_microbatches);
  // Waits for all reductions of the step, and makes the gradients final.
  void FinishGradients();
  // Frees the gradients.
  void ClearGradients();
  // Gives back what is gathered, so that it is gathered again.
  void FreeGathered();
  // The same, and quantises what travels in float8: the weights are others now.
  void FinishUpdate();

  // Copies this rank's part of a whole parameter value into `piece` of `units`.
  void Assign(const Piece& piece, const at::Tensor& value, const std::vector<at::Tensor>& units) const;
  // The whole of a parameter from the pieces of all ranks, on the CPU, on rank 0 of each pipeline stage (undefined
  // elsewhere). All ranks that own the block call it with the same piece index.
  at::Tensor Gather(size_t piece, const std::vector<at::Tensor>& units) const;

  std::vector<at::Tensor> Weights(size_t block) override;
  std::vector<at::Tensor> InverseScales(size_t block) override;
  void Prefetch(size_t block) override;
  void Release(size_t block) override;
  GradientSum* SumOfGradients(size_t block, size_t weight) override;
  void AddGradients(size_t block, std::vector<at::Tensor> gradients) override;

 private:
  // Where a block finds a weight: unit, and its place there.
  struct Reference {
    size_t unit = 0;
    size_t parameter = 0;
  };
  struct Unit {
    UnitLayout layout;
    at::Tensor computed;              // (shard_size) of the compute dtype; the master itself where that is the same
    at::Tensor gathered;              // (n * shard_size) of the compute dtype; `computed` for n = 1 without offload
    std::vector<at::Tensor> weights;  // views of `gathered`, in the parameters' local shapes
    bool is_gathered = false;
    Work gather;
    // Where weights travel in float8: those from the element `float8_begin` of the vector on. Then `gathered` ends
    // there.
    int64_t float8_begin = 0;
    at::Tensor computed_float8;              // (shard_size) e4m3, of which what lies before float8_begin is not used
    at::Tensor gathered_float8;              // (n * shard_size) e4m3; `computed_float8` for n = 1
    std::vector<at::Tensor> inverse_scales;  // of each parameter: scalar fp32, or undefined
    Work float8_gather;
    at::Tensor uploaded;  // with offload, until it is gathered: `computed` on the device
    // Of the step:
    int64_t arrived = 0;            // AddGradients calls of the block that owns the unit
    at::Tensor whole_gradient;      // (n * shard_size): summed over microbatches, not yet over ranks
    std::vector<GradientSum> sums;  // of each parameter: its part of whole_gradient
    at::Tensor gradient_memory;     // what whole_gradient is in every step, with keep_gradient_memory
    at::Tensor reduced;             // (shard_size): on its way here
    Work reduction;                 // over the ranks that share the unit, then over the replicas
  };

  Parameters(const ParallelGroups& groups, Options options)
      : groups_(groups), options_(std::move(options)), copies_(options_.device) {}

  absl::Status AddUnit(const BlockSpec& block, const std::vector<bool>& is_float8, const InitialValue& initial_value);
  void AddWeights(Unit& unit, const std::vector<bool>& is_float8);
  int64_t Float8Begin(const Unit& unit, const std::vector<bool>& is_float8) const;
  void QuantizeShards();
  void GatherFloat8(Unit& unit);
  at::Tensor LocalPart(const Piece& piece, const at::Tensor& value) const;
  void NewWholeGradient(Unit& unit) const;
  void ZeroGaps(const Unit& unit, const at::Tensor& gradient) const;
  void ForgetSums(Unit& unit) const;
  at::Tensor HostCopy(const at::Tensor& tensor, at::ScalarType dtype) const;
  void StartGather(Unit& unit);
  void StartUpload(Unit& unit);
  void FinishGather(Unit& unit);
  void Free(Unit& unit);
  void StartReduction(size_t unit);
  void FinishReduction(size_t unit);
  void FinishReplication(size_t unit);
  void TakeHome(size_t unit);
  void AddUpReplicatedGradients();
  int64_t WholeSize(const Unit& unit) const { return groups_.fsdp().size() * unit.layout.shard_size; }
  bool IsSharded() const { return groups_.fsdp().size() > 1; }
  // Whether the blocks' weights come and go; otherwise the compute copies are what they see.
  bool Gathers() const { return IsSharded() || options_.offload; }

  const ParallelGroups& groups_;
  const Options options_;
  const CopyStream copies_;
  std::vector<Unit> units_;
  std::vector<at::Tensor> masters_, gradients_;
  std::vector<Piece> pieces_;
  std::vector<std::vector<Reference>> references_;  // of each block: own parameters, then shared
  std::deque<size_t> reducing_;     // units whose gradients are on their way to the ranks that share them, oldest first
  std::deque<size_t> replicating_;  // units whose gradients are being added up over the replicas, oldest first
  int64_t num_microbatches_ = 0;
};

}  // namespace titan

#endif  // TITAN_PARALLEL_PARAMETERS_H_
