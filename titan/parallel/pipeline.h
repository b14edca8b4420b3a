// Runs a pipeline schedule: this rank's actions in their order, each as soon as what it needs has come.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Pipeline> pipeline, Pipeline::Create(model, parameters, groups, plan,
//   options)); at::Tensor loss_sum = pipeline->ForwardBackward(microbatches, 1.0 / valid_tokens);
//
// Activations and their gradients travel between the ranks of the pp axis. Each direction between two ranks has a
// communicator of its own: messages of one direction arrive in the order of sending, and never wait for those of
// another, so that every schedule that titan/plan accepts runs without deadlock. A receive is posted one action ahead.

#ifndef TITAN_PARALLEL_PIPELINE_H_
#define TITAN_PARALLEL_PIPELINE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "titan/parallel/groups.h"
#include "titan/parallel/walk.h"
#include "titan/plan/pipeline_plan.h"

namespace titan {

class Pipeline {
 public:
  struct Options {
    at::Device device = at::kCPU;
    at::ScalarType compute_dtype = at::kFloat;  // of hidden values and their gradients
    std::vector<Recompute> recompute;           // of each block: see StageWalk
  };

  // Of each block of the model, whether a rank of the pipeline walks it.
  static std::vector<bool> OwnedBlocks(const PipelinePlan& plan, int64_t pp_rank, size_t num_blocks);

  // All arguments but `options` must outlive the result. Every rank of the mesh calls it.
  static absl::StatusOr<std::unique_ptr<Pipeline>> Create(const Model& model, BlockParameters& parameters,
                                                          const ParallelGroups& groups, PipelinePlan plan,
                                                          const Options& options);

  std::vector<bool> OwnedBlocks(int64_t pp_rank) const { return OwnedBlocks(plan_, pp_rank, model_.blocks().size()); }

  // Forward and backward of plan.schedule.num_microbatches microbatches. Sum of the token cross-entropies in float64 on
  // the rank of the last stage, 0 elsewhere; the gradients of (sum * gradient_scale) go to the parameters.
  at::Tensor ForwardBackward(const std::vector<Microbatch>& microbatches, double gradient_scale);

  // Forward alone, of any number of microbatches: the same sum, in the same places. Of a stage nothing is kept.
  at::Tensor ForwardLossSum(const std::vector<Microbatch>& microbatches);

  // Forward and, unless `forward_only`, backward of every stage of this rank, on zeros where its input would come from
  // others: nothing travels along the pipeline, and the gradients, 0, go to the parameters. CUDA loads a kernel when it
  // is first used, and may wait for all that runs on the GPU; if a message is among that, from a rank that waits for
  // us, that is for ever. So on a GPU this comes before the first ForwardBackward, and before the first ForwardLossSum.
  void Rehearse(const Microbatch& microbatch, bool forward_only);

  // Adds what this rank has sent to its neighbours so far.
  void AddTraffic(CommunicationCounts& counts) const;

 private:
  // What goes into an action from another: the hidden values for a forward, the gradient for a backward.
  using Key = std::tuple<bool, int64_t, int64_t>;  // is backward, stage, microbatch
  static Key KeyOf(const PipelineAction& action) {
    return {action.op != PipelineOp::kForward, action.stage, action.microbatch};
  }

  // Messages from another rank.
  struct Inbox {
    Communicator* channel = nullptr;
    std::vector<PipelineAction> order;  // of the run under way: who waits for them, in the order of sending
    size_t next = 0;                    // of `order`, to be posted
    std::map<Key, std::pair<at::Tensor, Work>> posted;
  };

  Pipeline(const Model& model, BlockParameters& parameters, const ParallelGroups& groups, PipelinePlan plan,
           const Options& options)
      : model_(model), parameters_(parameters), groups_(groups), plan_(std::move(plan)), options_(options) {}

  absl::Status Connect();
  // The rank whose message `action` waits for; -1 if none.
  int64_t Sender(const PipelineAction& action) const;
  void Post(const PipelineAction& action);
  at::Tensor Input(const PipelineAction& action);
  // Hands a result on to the action that needs it, here or on another rank.
  void Deliver(const PipelineAction& receiver, const at::Tensor& value);
  // Without a gradient_scale the schedule has forwards only.
  at::Tensor Run(const PipelineSchedule& schedule, const std::vector<Microbatch>& microbatches,
                 std::optional<double> gradient_scale);
  void Execute(const PipelineAction& action, const std::vector<Microbatch>& microbatches,
               std::optional<double> gradient_scale);
  void ExecuteForward(const PipelineAction& action, const Microbatch& microbatch, std::optional<double> gradient_scale);
  std::vector<int64_t> HiddenShape(const Microbatch& microbatch) const;

  const Model& model_;
  BlockParameters& parameters_;
  const ParallelGroups& groups_;
  const PipelinePlan plan_;
  const Options options_;
  bool splits_backward_ = false;
  std::vector<std::unique_ptr<Communicator>> channels_;  // in the order of their creation, in which they end, too
  std::map<int64_t, Inbox> inboxes_;                     // by the sender's pp rank
  std::map<int64_t, Communicator*> outboxes_;            // by the receiver's pp rank
  // Of the run under way:
  std::vector<int64_t> hidden_shape_;
  std::map<Key, at::Tensor> local_;                                          // from another stage of this rank
  std::map<std::pair<int64_t, int64_t>, std::unique_ptr<StageWalk>> walks_;  // by stage and microbatch
  std::vector<Work> sends_;
  at::Tensor loss_sum_;
};

}  // namespace titan

#endif  // TITAN_PARALLEL_PIPELINE_H_
