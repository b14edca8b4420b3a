// Forward and backward of microbatches as one launch each (training.enable_cuda_graphs), for models whose kernels are
// done before the host has launched the next one.
//
//   MicrobatchGraphs graphs(model, parameters, device, recompute);  // parameters with keep_gradient_memory
//   parameters.BeginStep(1);
//   at::Tensor loss_sum = graphs.ForwardBackward(microbatch, 1.0 / valid_tokens);
//
// For every form of microbatch (shape, about how many documents, whether it is a step's first) the first one runs
// kernel by kernel, the second one is recorded, and from then on that is replayed. The memory of what is recorded stays
// taken.

#ifndef TITAN_TRAIN_MICROBATCH_GRAPHS_H_
#define TITAN_TRAIN_MICROBATCH_GRAPHS_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "titan/model/model.h"
#include "titan/parallel/parameters.h"
#include "titan/parallel/walk.h"
#include "titan/train/device_graph.h"

namespace titan {

class MicrobatchGraphs {
 public:
  // All of them must outlive it. No rank may take part in another's forward and backward: no FSDP, no tensor, context
  // or pipeline parallelism, no offloading.
  MicrobatchGraphs(const Model& model, Parameters& parameters, at::Device device,
                   const std::vector<Recompute>& recompute);

  // As titan/parallel/walk.h has it. The result is overwritten by the next call.
  at::Tensor ForwardBackward(const Microbatch& microbatch, double gradient_scale);

  // How many forms have been recorded.
  size_t num_recorded() const;

 private:
  // What decides about the kernels: rows, tokens of a row, capacity for documents (0: one a row), whether the gradients
  // are added to others.
  using Form = std::array<int64_t, 4>;
  struct Recording {
    Microbatch inputs;          // where the work looks for them
    at::Tensor gradient_scale;  // scalar, fp64
    at::Tensor loss_sum;        // scalar, fp64: where the work leaves it
    bool has_run = false;
    std::unique_ptr<DeviceGraph> graph;
  };

  Form FormOf(const Microbatch& microbatch);
  Recording& RecordingFor(const Microbatch& microbatch);
  void Run(Recording& recording);
  void NoteGradients();

  const Model& model_;
  Parameters& parameters_;
  const at::Device device_;
  const std::vector<Recompute>& recompute_;
  std::map<Form, Recording> recordings_;
  DeviceGraph* newest_ = nullptr;  // shares its memory with the next one
};

}  // namespace titan

#endif  // TITAN_TRAIN_MICROBATCH_GRAPHS_H_
