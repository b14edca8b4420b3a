// Records an operator's own backward. The one file behind it includes LibTorch's autograd, which would cost every
// operator 15 seconds of compile time.
//
//   at::Tensor Square(const at::Tensor& x) {
//     return ApplyFunction(
//         {x}, [](const TensorVector& in) -> Recorded { return {.outputs = {in[0] * in[0]}, .saved = {in[0]}}; },
//         [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
//           return {2 * saved[0] * gradients[0]};
//         })[0];
//   }

#ifndef TITAN_KERNELS_FUNCTION_H_
#define TITAN_KERNELS_FUNCTION_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <vector>

namespace titan {

using TensorVector = std::vector<at::Tensor>;

struct Recorded {
  TensorVector outputs;
  TensorVector saved;  // what backward needs of the inputs, the outputs and intermediate results
};

using FunctionForward = std::function<Recorded(const TensorVector& inputs)>;

// Returns the gradient of each input, undefined where there is none. `gradients` has a tensor for each output, of zeros
// where nothing depends on it.
using FunctionBackward = std::function<TensorVector(const TensorVector& saved, const TensorVector& gradients)>;

// Runs `forward` at once, unrecorded, and returns its outputs. `backward` is kept only if gradients are enabled and one
// of the inputs, all of which are defined, requires one. Inputs and outputs reach it through `saved`: one that it
// captured would keep the graph alive for ever.
TensorVector ApplyFunction(const TensorVector& inputs, const FunctionForward& forward,
                           const FunctionBackward& backward);

// What operators have computed in a first run, kept for a second one with equal inputs, which then does not compute it
// again: selective recomputation. A KeepScope says which operators.
//
//   KeptRecords kept;
//   {
//     const c10::AutoGradMode no_grad(false);
//     const KeepScope scope(&kept);
//     y = Square(x);
//   }
//   kept.Rewind();
//   {
//     const KeepScope scope(&kept);
//     y = Square(same_x);  // the same values, with a graph; `forward` does not run
//   }
//
// Kept are outputs and what `forward` saves, but for the inputs themselves.
class KeptRecords {
 public:
  KeptRecords() = default;
  KeptRecords(const KeptRecords&) = delete;
  KeptRecords& operator=(const KeptRecords&) = delete;

  // The second run begins: the same operators in the same order.
  void Rewind() { is_second_run_ = true; }
  bool is_second_run() const { return is_second_run_; }
  // In the second run: everything was taken.
  bool empty() const { return entries_.empty(); }

  // In the first run: what operators give from here on is read by nobody in the second run, and is not kept. It is
  // zeros there, without memory of their own.
  void ForgetOutputs() { forgets_outputs_ = true; }

  // `forward(inputs)`, or what it gave in the first run.
  Recorded Run(const TensorVector& inputs, const FunctionForward& forward);

 private:
  struct Entry {
    Recorded recorded;                // without tensors where an input was saved
    std::vector<ptrdiff_t> input_of;  // of each saved tensor: which input it is; -1: none
  };

  bool is_second_run_ = false, forgets_outputs_ = false;
  std::deque<Entry> entries_;
};

// While it lives, the operators that this thread applies keep what they record, or take it back.
class KeepScope {
 public:
  // Null: nothing is kept.
  explicit KeepScope(KeptRecords* kept);
  ~KeepScope();
  KeepScope(const KeepScope&) = delete;
  KeepScope& operator=(const KeepScope&) = delete;

 private:
  KeptRecords* const outer_;
};

// While it lives, lists the memory of what the operators that this thread applies save for their backward, each once.
//
//   std::vector<c10::Storage> saved;
//   {
//     const SavedScope scope(&saved);
//     y = Square(x);
//   }
//   // saved[0] is the storage of x
class SavedScope {
 public:
  // Null: nothing is listed.
  explicit SavedScope(std::vector<c10::Storage>* saved);
  ~SavedScope();
  SavedScope(const SavedScope&) = delete;
  SavedScope& operator=(const SavedScope&) = delete;

 private:
  std::vector<c10::Storage>* const outer_;
};

// A function made of LibTorch's differentiable operators, as an operator that can be kept. Without a KeepScope it is
// `function(inputs)`. Gradients flow to `inputs` only, which are floating point; `function` is deterministic.
at::Tensor ApplyComposite(const TensorVector& inputs, const std::function<at::Tensor(const TensorVector&)>& function);

}  // namespace titan

#endif  // TITAN_KERNELS_FUNCTION_H_
