#include "titan/train/microbatch_graphs.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "absl/log/check.h"
#include "absl/numeric/bits.h"

namespace titan {
namespace {

// The real parameters, but that gradients are added up and nothing follows from it: what does is not for a recording.
class GradientSums : public BlockParameters {
 public:
  explicit GradientSums(Parameters& parameters) : parameters_(parameters) {}

  std::vector<at::Tensor> Weights(size_t block) override { return parameters_.Weights(block); }
  std::vector<at::Tensor> InverseScales(size_t block) override { return parameters_.InverseScales(block); }
  GradientSum* SumOfGradients(size_t block, size_t weight) override {
    return parameters_.SumOfGradients(block, weight);
  }
  void AddGradients(size_t block, std::vector<at::Tensor> gradients) override {
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (gradients[i].defined()) parameters_.SumOfGradients(block, i)->Add(gradients[i]);
    }
  }

 private:
  Parameters& parameters_;
};

// Documents that there is room for: few different numbers, so that there are few forms.
int64_t CapacityFor(int64_t documents) {
  return static_cast<int64_t>(absl::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(documents, 8))));
}

// Of the tensors that the work reads, in an order of their own.
std::vector<at::Tensor*> TensorsOf(Microbatch& microbatch) {
  BatchContext& context = microbatch.context;
  return {&microbatch.tokens, &microbatch.labels, &context.positions,
          &context.rope_cos,  &context.rope_sin,  &context.visible.first_key};
}

// `to` (capacity + 1) from `from` (documents + 1): those that are not there are empty and at the end.
void CopyStarts(const at::Tensor& to, const at::Tensor& from) {
  const int64_t count = from.numel();
  to.narrow(0, 0, count).copy_(from);
  if (count < to.numel())
    to.narrow(0, count, to.numel() - count).copy_(from.narrow(0, count - 1, 1).expand({to.numel() - count}));
}

}  // namespace

MicrobatchGraphs::MicrobatchGraphs(const Model& model, Parameters& parameters, at::Device device,
                                   const std::vector<Recompute>& recompute)
    : model_(model), parameters_(parameters), device_(device), recompute_(recompute) {}

size_t MicrobatchGraphs::num_recorded() const {
  return std::count_if(recordings_.begin(), recordings_.end(),
                       [](const auto& entry) { return entry.second.graph != nullptr; });
}

MicrobatchGraphs::Form MicrobatchGraphs::FormOf(const Microbatch& microbatch) {
  const VisibleKeys& visible = microbatch.context.visible;
  int64_t capacity = 0;
  if (visible.document_starts.defined()) {
    capacity = CapacityFor(visible.document_starts.numel() - 1);
  } else if (visible.several_documents) {
    capacity = -1;  // they are told apart by first_key
  }
  return {microbatch.tokens.size(0), microbatch.tokens.size(1), capacity, parameters_.SumOfGradients(0, 0)->has_value};
}

MicrobatchGraphs::Recording& MicrobatchGraphs::RecordingFor(const Microbatch& microbatch) {
  CHECK(microbatch.context.pieces.empty()) << "context parallelism cannot be recorded";
  const Form form = FormOf(microbatch);
  Recording& recording = recordings_[form];
  if (recording.loss_sum.defined()) return recording;
  recording.inputs = microbatch;
  for (at::Tensor* tensor : TensorsOf(recording.inputs)) *tensor = at::empty(tensor->sizes(), tensor->options());
  VisibleKeys& visible = recording.inputs.context.visible;
  if (visible.document_starts.defined()) {
    visible.document_starts = at::empty({form[2] + 1}, visible.document_starts.options());
    visible.longest_document = microbatch.tokens.size(1);  // a bound is enough
  }
  const at::TensorOptions scalar = at::TensorOptions(device_).dtype(at::kDouble);
  recording.gradient_scale = at::empty({}, scalar);
  recording.loss_sum = at::empty({}, scalar);
  return recording;
}

void MicrobatchGraphs::Run(Recording& recording) {
  const auto work = [this, &recording] {
    GradientSums sums(parameters_);
    recording.loss_sum.copy_(
        titan::ForwardBackward(model_, sums, recording.inputs, recording.gradient_scale, recompute_));
  };
  if (!std::exchange(recording.has_run, true)) return work();
  if (recording.graph == nullptr) {
    recording.graph = DeviceGraph::Record(device_, work, newest_);
    newest_ = recording.graph.get();
  }
  recording.graph->Replay();
}

// Tells the parameters what the work did.
void MicrobatchGraphs::NoteGradients() {
  for (size_t block = model_.blocks().size(); block-- > 0;) {
    const size_t num_weights = parameters_.Weights(block).size();
    for (size_t i = 0; i < num_weights; ++i) parameters_.SumOfGradients(block, i)->has_value = true;
    parameters_.AddGradients(block, std::vector<at::Tensor>(num_weights));
  }
}

at::Tensor MicrobatchGraphs::ForwardBackward(const Microbatch& microbatch, double gradient_scale) {
  // The memory of the sums must be there before anything is recorded, and must not be the recording's.
  for (size_t block = 0; block < model_.blocks().size(); ++block) parameters_.SumOfGradients(block, 0);
  Recording& recording = RecordingFor(microbatch);
  Microbatch given = microbatch;
  const std::vector<at::Tensor*> from = TensorsOf(given), to = TensorsOf(recording.inputs);
  for (size_t i = 0; i < from.size(); ++i) to[i]->copy_(*from[i]);
  const at::Tensor& starts = microbatch.context.visible.document_starts;
  if (starts.defined()) CopyStarts(recording.inputs.context.visible.document_starts, starts);
  recording.gradient_scale.fill_(gradient_scale);
  Run(recording);
  NoteGradients();
  return recording.loss_sum;
}

}  // namespace titan
