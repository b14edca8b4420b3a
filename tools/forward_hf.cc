#include "tools/forward_hf.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>

#include <memory>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"
#include "titan/checkpoint/hf.h"
#include "titan/config/experiment.pb.h"
#include "titan/model/model.h"
#include "titan/parallel/parameters.h"
#include "titan/parallel/walk.h"

namespace titan {
namespace {

std::string ToString(at::IntArrayRef shape) {
  std::ostringstream out;
  out << shape;
  return out.str();
}

// The (B, S) int64 tensor `name`; `shape` empty: any shape.
absl::StatusOr<at::Tensor> Indices(const NamedTensors& inputs, const std::string& name, at::IntArrayRef shape) {
  const at::Tensor* tensor = FindTensor(inputs, name);
  if (tensor == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("inputs: there is no tensor ", name, " in the file"));
  }
  const bool fits = shape.empty() ? tensor->dim() == 2 : tensor->sizes() == shape;
  if (tensor->scalar_type() != at::kLong || !fits) {
    return absl::InvalidArgumentError(
        absl::StrCat("inputs: ", name, " must be I64 of shape ", shape.empty() ? "[B, S]" : ToString(shape), ", it is ",
                     at::toString(tensor->scalar_type()), " ", ToString(tensor->sizes())));
  }
  return *tensor;
}

// Refuses ids outside [0, vocab_size); -100 is fine for labels.
absl::Status CheckIds(const at::Tensor& ids, const std::string& name, int64_t vocab_size, bool are_labels) {
  at::Tensor bad = ids.lt(0).logical_or(ids.ge(vocab_size));
  if (are_labels) bad = bad.logical_and(ids.ne(-100));
  if (!bad.any().item<bool>()) return absl::OkStatus();
  const int64_t worst = ids.masked_select(bad)[0].item<int64_t>();
  return absl::InvalidArgumentError(absl::StrCat("inputs: ", name, " holds ", worst, "; the vocabulary has ids 0 to ",
                                                 vocab_size - 1, are_labels ? ", and -100 means no label" : ""));
}

// Counts from 0 again wherever the document changes.
at::Tensor PositionsOf(const at::Tensor& document_ids) {
  at::Tensor positions = at::empty_like(document_ids, at::MemoryFormat::Contiguous);
  const at::Tensor documents = document_ids.contiguous();
  const int64_t* document = documents.const_data_ptr<int64_t>();
  int64_t* position = positions.mutable_data_ptr<int64_t>();
  const int64_t sequence = documents.size(1);
  for (int64_t i = 0; i < documents.numel(); ++i) {
    const bool starts = i % sequence == 0 || document[i] != document[i - 1];
    position[i] = starts ? 0 : position[i - 1] + 1;
  }
  return positions;
}

absl::StatusOr<at::Tensor> Positions(const NamedTensors& inputs, at::IntArrayRef shape, bool packed) {
  const std::string prefix = packed ? "packed." : "";
  const bool has_documents = FindTensor(inputs, prefix + "document_ids") != nullptr;
  const bool has_positions = FindTensor(inputs, prefix + "position_ids") != nullptr;
  if (packed && !has_documents && !has_positions) {
    return absl::InvalidArgumentError("inputs: --packed needs packed.document_ids or packed.position_ids in the file");
  }
  at::Tensor positions = at::arange(shape[1], at::TensorOptions(at::kLong)).expand(shape);
  if (has_documents) {
    TITAN_ASSIGN_OR_RETURN(const at::Tensor documents, Indices(inputs, prefix + "document_ids", shape));
    positions = PositionsOf(documents);
  }
  if (has_positions) {
    TITAN_ASSIGN_OR_RETURN(const at::Tensor given, Indices(inputs, prefix + "position_ids", shape));
    if (has_documents && !at::equal(given, positions)) {
      return absl::InvalidArgumentError(absl::StrCat("inputs: ", prefix,
                                                     "position_ids do not restart at 0 exactly where ", prefix,
                                                     "document_ids change; leave one of them out"));
    }
    positions = given;
  }
  return positions;
}

}  // namespace

absl::StatusOr<NamedTensors> ForwardHf(const std::string& hf_dir, const NamedTensors& inputs,
                                       const ForwardOptions& options) {
  TITAN_ASSIGN_OR_RETURN(const at::Tensor tokens, Indices(inputs, "input_ids", {}));
  TITAN_ASSIGN_OR_RETURN(const at::Tensor labels, Indices(inputs, "labels", tokens.sizes()));
  TITAN_ASSIGN_OR_RETURN(const at::Tensor positions, Positions(inputs, tokens.sizes(), options.packed));
  TITAN_ASSIGN_OR_RETURN(const HfCheckpoint checkpoint, OpenHf(hf_dir));
  TITAN_RETURN_IF_ERROR(CheckIds(tokens, "input_ids", checkpoint.model().vocab_size(), /*are_labels=*/false));
  TITAN_RETURN_IF_ERROR(CheckIds(labels, "labels", checkpoint.model().vocab_size(), /*are_labels=*/true));
  TITAN_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, Model::Create(checkpoint.model()));
  const std::unique_ptr<ParallelGroups> groups = ParallelGroups::Single();
  TITAN_ASSIGN_OR_RETURN(
      const std::unique_ptr<Parameters> parameters,
      Parameters::Create(model->spec(), *groups, {.dtype = options.dtype, .compute_dtype = options.dtype},
                         [&](const ParameterSpec& spec) { return checkpoint.Load(spec.name, options.dtype); }));

  const Microbatch microbatch{
      .tokens = tokens, .labels = labels, .context = model->MakeContext(positions, {.compute_dtype = options.dtype})};
  const int64_t valid_labels = labels.ne(-100).sum().item<int64_t>();
  if (valid_labels == 0) return absl::InvalidArgumentError("inputs: every label is -100, so that there is no loss");

  NamedTensors out;
  std::vector<at::Tensor> hidden;
  out.emplace_back("logits", ForwardLogits(*model, *parameters, microbatch, options.hidden ? &hidden : nullptr));
  const double scale = 1.0 / static_cast<double>(valid_labels);
  parameters->BeginStep(/*num_microbatches=*/1);
  const std::vector<Recompute> recompute(model->blocks().size(), Recompute::kNothing);
  const at::Tensor loss_sum = options.backward ? ForwardBackward(*model, *parameters, microbatch, scale, recompute)
                                               : ForwardLossSum(*model, *parameters, microbatch);
  out.emplace_back("loss", loss_sum.mul(scale).reshape({1}));
  for (size_t i = 0; i < hidden.size(); ++i) out.emplace_back(absl::StrCat("hidden.", i), hidden[i]);
  if (options.backward) {
    parameters->FinishGradients();
    for (const Parameters::Piece& piece : parameters->pieces()) {
      out.emplace_back(absl::StrCat("grad.", checkpoint.HfName(piece.name)),
                       parameters->View(piece, parameters->gradients()));
    }
  }
  return out;
}

}  // namespace titan
