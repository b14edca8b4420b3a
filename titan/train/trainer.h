// One training step: a global batch in, updated parameters out. Nothing here reads or writes files; run.h does.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Trainer> trainer, Trainer::Create(experiment, {.device = at::kCPU}));
//   TITAN_ASSIGN_OR_RETURN(const Batch batch, loader->Next());
//   TITAN_ASSIGN_OR_RETURN(const StepResult result, trainer->Step(batch));  // result.loss, result.grad_norm, ...
//
// Many processes may share a step: each gets the same batch, takes its part of it, and learns the same result.
//
// A step is ComputeGradients, then Update. Whoever wants to look at or spoil what lies between calls the two.

#ifndef TITAN_TRAIN_TRAINER_H_
#define TITAN_TRAIN_TRAINER_H_

#include <ATen/core/Tensor.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/checkpoint/box.h"
#include "titan/data/loader.h"
#include "titan/model/model.h"
#include "titan/optim/lr_schedule.h"
#include "titan/optim/optimizer.h"
#include "titan/parallel/groups.h"
#include "titan/parallel/parameters.h"
#include "titan/parallel/pipeline.h"
#include "titan/train/microbatch_graphs.h"

namespace titan::config {
class Training;
}

namespace titan {

// How long ranks wait for those that still write or read a checkpoint. A rank that dies is noticed at once all the
// same.
inline constexpr std::chrono::hours kCheckpointTimeLimit{1};

struct TrainerOptions {
  at::Device device = at::kCPU;
  // Computes everything in fp64, masters and optimizer state too, whatever the experiment says: for comparison with
  // references.
  bool fp64 = false;
  // Where the parameters start. Unset: drawn by debug.seed, the same for every layout.
  Parameters::InitialValue initial_value = nullptr;
  // With whom the step is shared; must outlive the trainer. Null: nobody.
  const ParallelGroups* groups = nullptr;
  // What the file in parallelism.pipeline_parallel_schedule_csv holds.
  std::string pipeline_schedule_csv = {};
};

// Rows of a global batch: training.global_batch_size, or where that is -1 local_batch_size for each rank of data
// parallelism. InvalidArgument if they cannot be dealt out evenly.
absl::StatusOr<int64_t> RowsPerStep(const config::Training& training, const Mesh& mesh);

// What a step learned before it changed anything.
struct Gradients {
  double loss = 0;                     // sum of token cross-entropies / valid tokens, over all microbatches
  double grad_norm = 0;                // global 2-norm, before clipping
  int64_t valid_tokens = 0;            // labels that are not -100
  bool someone_wants_to_stop = false;  // some rank's `wants_to_stop`
};

struct StepResult {
  int64_t step = 0;  // 1 for the first
  double loss = 0;
  double grad_norm = 0;
  double lr = 0;  // that this step used
  int64_t valid_tokens = 0;
  bool someone_wants_to_stop = false;
};

class Trainer {
 public:
  // Sets LibTorch's global determinism by experiment.determinism. `experiment` must have passed the strict reader.
  // InvalidArgument for a layout that the model, the batch or the schedule does not allow.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const config::Experiment& experiment,
                                                         const TrainerOptions& options);
  ~Trainer();

  // Steps done so far.
  int64_t step() const { return step_; }
  // Of the next step.
  double lr() const;
  // The steps after which the schedule of the learning rate and the optimizer's averages began: 0, unless
  // checkpoint.exclude_from_loading has left them out since.
  int64_t schedule_start() const { return schedule_start_; }
  int64_t optimizer_start() const { return step_ - optimizer_->num_updates(); }

  // `wants_to_stop` is told to all ranks, so that they can agree to end after this step. `before_update`, if given, is
  // called when the gradients are there: what it enqueues still sees the state as it was.
  absl::StatusOr<StepResult> Step(const Batch& batch, bool wants_to_stop = false,
                                  const std::function<void()>& before_update = nullptr);

  // Forward and backward of all microbatches (local_batch_size rows each) of this rank's part of the global batch, and
  // the sum over all ranks. Valid tokens are counted from batch.labels. A loss or a gradient that is not finite is an
  // error with ExitCode::kNonFinite that names step, rank and the first bad parameter; the parameters are as they were.
  absl::StatusOr<Gradients> ComputeGradients(const Batch& batch, bool wants_to_stop = false);
  // Forward alone, each rank its part of the batch at once: the sum of the token cross-entropies over all ranks.
  // Changes nothing that a step depends on. The sequences may be of another length than those of training;
  // InvalidArgument for rows that cannot be dealt out evenly.
  absl::StatusOr<double> LossSum(const Batch& batch);
  // Clips and applies the gradients of the last ComputeGradients, and counts the step.
  absl::Status Update(const Gradients& gradients);

  // What this rank has sent so far, messages between stages of a pipeline among "pp". What a step sends is the
  // difference before and after it: State() sends, too.
  Traffic traffic() const;

  const Mesh& mesh() const { return groups_->mesh(); }
  const Model& model() const { return *model_; }
  const Parameters& parameters() const { return *parameters_; }

  // What this rank holds of one of the tensors that a checkpoint has: "model.<parameter>",
  // "optimizer.exp_avg.<parameter>" and "optimizer.exp_avg_sq.<parameter>", or "optimizer.momentum.<parameter>" where
  // the parameter has Muon.
  struct StatePiece {
    std::string name;
    std::vector<int64_t> shape;  // of the whole tensor
    std::vector<Box> boxes;      // of it, in the order of their elements here
    at::Tensor shard;            // (n): the live vector in which they lie, one after the other
    int64_t begin = 0;           // of the first of them in it
    int64_t count = 0;
    bool is_written_here = true;  // where several ranks hold the same elements, of one of them

    at::Tensor elements() const { return shard.narrow(0, begin, count); }  // (count)
  };
  // Together, the pieces of all ranks that are written there are all of every tensor, once.
  std::vector<StatePiece> LocalState() const;
  // Continues after `step` with what `read` puts into `out` (count), on the CPU, for each of LocalState()'s pieces.
  absl::Status Restore(int64_t step,
                       const std::function<absl::Status(const StatePiece& piece, const at::Tensor& out)>& read);
  // After Restore, which leaves both at 0.
  void SetStarts(int64_t schedule_start, int64_t optimizer_start);

  // The whole tensors, for who wants to look at them. Alone: views of the live tensors. With others: every rank calls
  // it; rank 0 gets copies on the CPU, the others nothing.
  std::vector<std::pair<std::string, at::Tensor>> State() const;

 private:
  struct Settings;

  explicit Trainer(std::unique_ptr<Settings> settings);

  absl::Status CreatePipeline(PipelinePlan plan);
  void RehearsePipeline(const Batch& batch, bool forward_only);
  Batch LocalRows(const Batch& batch) const;
  std::vector<Microbatch> CutUp(const Batch& batch, int64_t microbatch_rows) const;
  void Accumulate(const Batch& batch, double gradient_scale, at::Tensor& loss_sum);
  at::Tensor LocalSumOfSquares() const;
  absl::Status NonFiniteError(const Gradients& gradients) const;
  using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;
  // (prefix of the names, tensors like masters) of everything in State(), but for what optimizer_ has no state of.
  std::vector<std::pair<std::string, const std::vector<at::Tensor>*>> StateUnits() const;
  void CollectFromStages(NamedTensors& state) const;

  std::unique_ptr<Settings> settings_;
  std::unique_ptr<ParallelGroups> own_groups_;  // where options gave none
  const ParallelGroups* groups_ = nullptr;
  std::unique_ptr<Model> model_;
  std::unique_ptr<BlockParallelism> parallelism_;
  std::unique_ptr<Parameters> parameters_;
  std::unique_ptr<Pipeline> pipeline_;  // with a pp axis larger than 1
  bool pipeline_rehearsed_ = false, forward_rehearsed_ = false;
  std::unique_ptr<MicrobatchGraphs> graphs_;  // with training.enable_cuda_graphs
  std::unique_ptr<Optimizer> optimizer_;
  int64_t step_ = 0;
  int64_t schedule_start_ = 0;
};

}  // namespace titan

#endif  // TITAN_TRAIN_TRAINER_H_
