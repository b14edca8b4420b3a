#include "titan/parallel/pipeline.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"

namespace titan {

std::vector<bool> Pipeline::OwnedBlocks(const PipelinePlan& plan, int64_t pp_rank, size_t num_blocks) {
  std::vector<bool> owned(num_blocks, false);
  for (size_t stage = 0; stage < plan.stages.size(); ++stage) {
    if (plan.schedule.rank_of_stage[stage] != pp_rank) continue;
    for (int64_t block = plan.stages[stage].begin; block < plan.stages[stage].end; ++block) owned[block] = true;
  }
  return owned;
}

absl::StatusOr<std::unique_ptr<Pipeline>> Pipeline::Create(const Model& model, BlockParameters& parameters,
                                                           const ParallelGroups& groups, PipelinePlan plan,
                                                           const Options& options) {
  auto pipeline = std::unique_ptr<Pipeline>(new Pipeline(model, parameters, groups, std::move(plan), options));
  for (const PipelineAction& action : pipeline->plan_.schedule.actions[groups.pp().rank()]) {
    pipeline->splits_backward_ |= action.op == PipelineOp::kBackwardWeight;
  }
  TITAN_RETURN_IF_ERROR(pipeline->Connect());
  return pipeline;
}

absl::Status Pipeline::Connect() {
  const Communicator& pp = groups_.pp();
  for (int64_t from = 0; from < pp.size(); ++from) {
    for (int64_t to = 0; to < pp.size(); ++to) {
      if (from == to || (pp.rank() != from && pp.rank() != to)) continue;
      if (ReceivesInSendOrder(plan_.schedule, from, to).empty()) continue;
      TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> channel,
                             groups_.NewGroup(absl::StrCat("pp.", pp.ranks()[from], "to", pp.ranks()[to]),
                                              {pp.ranks()[from], pp.ranks()[to]}));
      // NCCL connects two ranks at their first message, and holds up both until it is sent and asked for. Later, each
      // may ask before it sends.
      const at::Tensor greeting = at::zeros({1}, at::TensorOptions(options_.device));
      const std::vector<Communicator::Transfer> to_other = {{.tensor = greeting, .peer = pp.rank() == from ? 1 : 0}};
      (pp.rank() == from ? channel->Exchange(to_other, {}) : channel->Exchange({}, to_other)).Wait();
      if (pp.rank() == from) {
        outboxes_[to] = channel.get();
      } else {
        inboxes_[from] = Inbox{.channel = channel.get(), .order = {}, .posted = {}};
      }
      channels_.push_back(std::move(channel));
    }
  }
  return absl::OkStatus();
}

int64_t Pipeline::Sender(const PipelineAction& action) const {
  int64_t from = -1;  // a stage
  if (action.op == PipelineOp::kForward) {
    from = action.stage - 1;
  } else if (action.op != PipelineOp::kBackwardWeight && action.stage + 1 < plan_.schedule.num_stages) {
    from = action.stage + 1;
  }
  if (from < 0) return -1;
  const int64_t rank = plan_.schedule.rank_of_stage[from];
  return rank == groups_.pp().rank() ? -1 : rank;
}

void Pipeline::Post(const PipelineAction& action) {
  const int64_t sender = Sender(action);
  if (sender < 0) return;
  Inbox& inbox = inboxes_.at(sender);
  const Key key = KeyOf(action);
  while (inbox.posted.find(key) == inbox.posted.end()) {
    CHECK_LT(inbox.next, inbox.order.size()) << "no message for " << ToString(action);
    const at::Tensor value = at::empty(hidden_shape_, at::TensorOptions(options_.device).dtype(options_.compute_dtype));
    // Of the two ranks of the channel the sender is the first.
    Work work = inbox.channel->Exchange({}, {{.tensor = value, .peer = 0}});
    inbox.posted.emplace(KeyOf(inbox.order[inbox.next++]), std::make_pair(value, std::move(work)));
  }
}

at::Tensor Pipeline::Input(const PipelineAction& action) {
  const Key key = KeyOf(action);
  const int64_t sender = Sender(action);
  if (sender < 0) {
    const auto found = local_.find(key);
    CHECK(found != local_.end()) << ToString(action) << " runs before what it needs";
    at::Tensor value = std::move(found->second);
    local_.erase(found);
    return value;
  }
  Post(action);
  const auto found = inboxes_.at(sender).posted.find(key);
  auto [value, work] = std::move(found->second);
  inboxes_.at(sender).posted.erase(found);
  work.Wait();
  return value;
}

void Pipeline::Deliver(const PipelineAction& receiver, const at::Tensor& value) {
  const int64_t rank = plan_.schedule.rank_of_stage[receiver.stage];
  if (rank == groups_.pp().rank()) {
    local_[KeyOf(receiver)] = value;
  } else {
    sends_.push_back(outboxes_.at(rank)->Exchange({{.tensor = value.contiguous(), .peer = 1}}, {}));
  }
}

std::vector<int64_t> Pipeline::HiddenShape(const Microbatch& microbatch) const {
  const auto [rows, tokens] = microbatch.context.parallelism->HiddenShape(microbatch.context);
  return {rows, tokens, model_.spec().blocks.front().parameters.front().shape.back()};
}

void Pipeline::ExecuteForward(const PipelineAction& action, const Microbatch& microbatch,
                              std::optional<double> gradient_scale) {
  const int64_t stage = action.stage;
  const auto [begin, end] = plan_.stages[stage];
  const at::Tensor input = stage == 0 ? at::Tensor() : Input(action);
  at::Tensor output;
  if (gradient_scale.has_value()) {
    std::unique_ptr<StageWalk>& walk = walks_[{stage, action.microbatch}];
    walk =
        std::make_unique<StageWalk>(model_, parameters_, begin, end, microbatch, options_.recompute, splits_backward_);
    output = walk->Forward(input);
  } else {
    output = ForwardStage(model_, parameters_, begin, end, microbatch, input);
  }
  if (stage + 1 < plan_.schedule.num_stages) {
    return Deliver({PipelineOp::kForward, stage + 1, action.microbatch}, output);
  }
  loss_sum_.add_(output);
  if (!gradient_scale.has_value()) return;
  local_[KeyOf({PipelineOp::kBackward, stage, action.microbatch})] = at::full({}, *gradient_scale, output.options());
}

void Pipeline::Execute(const PipelineAction& action, const std::vector<Microbatch>& microbatches,
                       std::optional<double> gradient_scale) {
  const auto [op, stage, microbatch] = action;
  if (op == PipelineOp::kForward) return ExecuteForward(action, microbatches[microbatch], gradient_scale);
  std::unique_ptr<StageWalk>& walk = walks_[{stage, microbatch}];
  if (op == PipelineOp::kBackwardWeight) {
    walk->BackwardWeight();
    walks_.erase({stage, microbatch});
    return;
  }
  const at::Tensor output_gradient = Input(action);
  const bool is_full = op == PipelineOp::kBackward;
  const at::Tensor gradient = is_full ? walk->Backward(output_gradient) : walk->BackwardInput(output_gradient);
  if (is_full) walks_.erase({stage, microbatch});
  if (stage > 0) Deliver({PipelineOp::kBackward, stage - 1, microbatch}, gradient);
}

void Pipeline::Rehearse(const Microbatch& microbatch, bool forward_only) {
  const at::TensorOptions hidden_options = at::TensorOptions(options_.device).dtype(options_.compute_dtype);
  struct Rehearsed {
    std::unique_ptr<StageWalk> walk;
    at::Tensor output;
  };
  std::vector<Rehearsed> stages;
  for (size_t stage = 0; stage < plan_.stages.size(); ++stage) {
    if (plan_.schedule.rank_of_stage[stage] != groups_.pp().rank()) continue;
    const auto [begin, end] = plan_.stages[stage];
    const at::Tensor input = stage == 0 ? at::Tensor() : at::zeros(HiddenShape(microbatch), hidden_options);
    if (forward_only) {
      ForwardStage(model_, parameters_, begin, end, microbatch, input);
      continue;
    }
    auto walk =
        std::make_unique<StageWalk>(model_, parameters_, begin, end, microbatch, options_.recompute, splits_backward_);
    at::Tensor output = walk->Forward(input);
    stages.push_back({std::move(walk), std::move(output)});
  }
  for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
    const at::Tensor gradient = at::zeros_like(stage->output);
    if (splits_backward_) {
      stage->walk->BackwardInput(gradient);
      stage->walk->BackwardWeight();
    } else {
      stage->walk->Backward(gradient);
    }
  }
}

void Pipeline::AddTraffic(CommunicationCounts& counts) const {
  for (const auto& [rank, channel] : outboxes_) {
    for (size_t kind = 0; kind < kNumCollectiveKinds; ++kind) {
      counts[kind].calls += channel->counts()[kind].calls;
      counts[kind].bytes_sent += channel->counts()[kind].bytes_sent;
    }
  }
}

at::Tensor Pipeline::ForwardBackward(const std::vector<Microbatch>& microbatches, double gradient_scale) {
  return Run(plan_.schedule, microbatches, gradient_scale);
}

at::Tensor Pipeline::ForwardLossSum(const std::vector<Microbatch>& microbatches) {
  return Run(ForwardOnlySchedule(plan_.schedule, static_cast<int64_t>(microbatches.size())), microbatches,
             std::nullopt);
}

at::Tensor Pipeline::Run(const PipelineSchedule& schedule, const std::vector<Microbatch>& microbatches,
                         std::optional<double> gradient_scale) {
  CHECK_EQ(static_cast<int64_t>(microbatches.size()), schedule.num_microbatches);
  const int64_t rank = groups_.pp().rank();
  hidden_shape_ = HiddenShape(microbatches.front());
  loss_sum_ = at::zeros({}, at::TensorOptions(options_.device).dtype(at::kDouble));
  for (auto& [sender, inbox] : inboxes_) {
    inbox.order = ReceivesInSendOrder(schedule, sender, rank);
    inbox.next = 0;
  }
  const std::vector<PipelineAction>& actions = schedule.actions[rank];
  for (size_t i = 0; i < actions.size(); ++i) {
    Post(actions[i]);
    if (i + 1 < actions.size()) Post(actions[i + 1]);
    Execute(actions[i], microbatches, gradient_scale);
  }
  for (Work& send : sends_) send.Wait();
  sends_.clear();
  CHECK(walks_.empty() && local_.empty()) << "the schedule left work undone";
  return loss_sum_;
}

}  // namespace titan
