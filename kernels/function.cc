#include "kernels/function.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/core/StorageImpl.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <utility>

namespace titan {
namespace {

using torch::autograd::AutogradContext;

// The form in which a context keeps a C++ value.
struct BackwardHolder : torch::CustomClassHolder {
  explicit BackwardHolder(FunctionBackward backward) : backward(std::move(backward)) {}
  FunctionBackward backward;
};

thread_local KeptRecords* current_kept = nullptr;
thread_local std::vector<c10::Storage>* current_saved = nullptr;

constexpr char kBackward[] = "backward";
constexpr size_t kOtherArguments = 2;  // of forward below; LibTorch wants a gradient for each

// Adds to `list` what is not in it yet.
void ListStorages(const TensorVector& tensors, std::vector<c10::Storage>& list) {
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined() || !tensor.has_storage()) continue;
    const c10::StorageImpl* const storage = tensor.storage().unsafeGetStorageImpl();
    const auto is_it = [storage](const c10::Storage& other) { return other.unsafeGetStorageImpl() == storage; };
    if (std::none_of(list.begin(), list.end(), is_it)) list.push_back(tensor.storage());
  }
}

class RecordedFunction : public torch::autograd::Function<RecordedFunction> {
 public:
  static TensorVector forward(AutogradContext* context, at::TensorList inputs, const FunctionForward* forward,
                              const FunctionBackward* backward) {
    Recorded recorded = current_kept == nullptr ? (*forward)(inputs.vec()) : current_kept->Run(inputs.vec(), *forward);
    if (current_saved != nullptr) ListStorages(recorded.saved, *current_saved);
    context->save_for_backward(std::move(recorded.saved));
    context->saved_data[kBackward] = c10::IValue::make_capsule(c10::make_intrusive<BackwardHolder>(*backward));
    return std::move(recorded.outputs);
  }

  static TensorVector backward(AutogradContext* context, TensorVector gradients) {
    const auto holder = context->saved_data[kBackward].toCapsule();
    TensorVector result =
        static_cast<const BackwardHolder&>(*holder).backward(context->get_saved_variables(), gradients);
    result.resize(result.size() + kOtherArguments);
    return result;
  }
};

at::DataPtr MemoryOf(const at::Tensor& tensor) {
  const auto release = [](void* owner) { delete static_cast<at::Tensor*>(owner); };
  return {tensor.mutable_data_ptr(), new at::Tensor(tensor), release, tensor.device()};
}

void SetMemory(const at::Tensor& tensor, at::DataPtr memory) {
  tensor.storage().unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(memory));
}

// A leaf with the values of `tensor`, whose memory can be taken away and put back: what has been saved of it for a
// backward, views included, has it then, too.
at::Tensor RefillableLeaf(const at::Tensor& tensor) {
  const size_t bytes =
      at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.element_size(), /*storage_offset=*/0);
  const c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, MemoryOf(tensor), /*allocator=*/nullptr,
                             /*resizable=*/false);
  at::Tensor leaf = at::empty({0}, tensor.options().requires_grad(false));
  leaf.set_(storage, 0, tensor.sizes(), tensor.strides());
  return leaf.requires_grad_(true);
}

// Saves the inputs, leaves in their place, and the result with the graph of `function`, which ends in the leaves.
Recorded RecordGraph(const TensorVector& inputs, const std::function<at::Tensor(const TensorVector&)>& function) {
  const c10::AutoGradMode with_graph(true);
  TensorVector leaves;
  for (const at::Tensor& input : inputs) leaves.push_back(RefillableLeaf(input.detach()));
  const at::Tensor result = function(leaves);
  for (const at::Tensor& leaf : leaves) SetMemory(leaf, at::DataPtr(nullptr, leaf.device()));
  Recorded recorded{.outputs = {result.detach()}, .saved = inputs};
  recorded.saved.insert(recorded.saved.end(), leaves.begin(), leaves.end());
  recorded.saved.push_back(result);
  return recorded;
}

TensorVector GraphBackward(const TensorVector& saved, const TensorVector& gradients) {
  const size_t num_inputs = saved.size() / 2;
  for (size_t i = 0; i < num_inputs; ++i) SetMemory(saved[num_inputs + i], MemoryOf(saved[i].detach()));
  saved.back().backward(gradients[0]);
  TensorVector result;
  for (size_t i = 0; i < num_inputs; ++i) result.push_back(saved[num_inputs + i].grad());
  return result;
}

}  // namespace

Recorded KeptRecords::Run(const TensorVector& inputs, const FunctionForward& forward) {
  if (is_second_run_) {
    TORCH_CHECK(!entries_.empty(), "the second run applies more operators than the first");
    Entry entry = std::move(entries_.front());
    entries_.pop_front();
    for (size_t i = 0; i < entry.input_of.size(); ++i) {
      if (entry.input_of[i] >= 0) entry.recorded.saved[i] = inputs.at(entry.input_of[i]);
    }
    return std::move(entry.recorded);
  }
  Recorded recorded = forward(inputs);
  Entry entry;
  // Tensors of their own over the same memory: those of the first run do not get the second one's graph.
  for (const at::Tensor& output : recorded.outputs) {
    entry.recorded.outputs.push_back(forgets_outputs_
                                         ? at::zeros({}, output.options().requires_grad(false)).expand(output.sizes())
                                         : output.detach());
  }
  for (const at::Tensor& saved : recorded.saved) {
    const auto is_saved = [&](const at::Tensor& tensor) { return tensor.is_same(saved); };
    const auto input = std::find_if(inputs.begin(), inputs.end(), is_saved);
    const auto output = std::find_if(recorded.outputs.begin(), recorded.outputs.end(), is_saved);
    entry.input_of.push_back(input == inputs.end() ? -1 : input - inputs.begin());
    if (input != inputs.end()) {
      entry.recorded.saved.emplace_back();
    } else if (output != recorded.outputs.end()) {
      entry.recorded.saved.push_back(forgets_outputs_ ? saved.detach()
                                                      : entry.recorded.outputs[output - recorded.outputs.begin()]);
    } else {
      entry.recorded.saved.push_back(saved);
    }
  }
  entries_.push_back(std::move(entry));
  return recorded;
}

KeepScope::KeepScope(KeptRecords* kept) : outer_(std::exchange(current_kept, kept)) {}
KeepScope::~KeepScope() { current_kept = outer_; }

SavedScope::SavedScope(std::vector<c10::Storage>* saved) : outer_(std::exchange(current_saved, saved)) {}
SavedScope::~SavedScope() { current_saved = outer_; }

TensorVector ApplyFunction(const TensorVector& inputs, const FunctionForward& forward,
                           const FunctionBackward& backward) {
  return RecordedFunction::apply(at::TensorList(inputs), &forward, &backward);
}

at::Tensor ApplyComposite(const TensorVector& inputs, const std::function<at::Tensor(const TensorVector&)>& function) {
  if (current_kept == nullptr) return function(inputs);
  const auto forward = [&](const TensorVector& in) { return RecordGraph(in, function); };
  return ApplyFunction(inputs, forward, &GraphBackward)[0];
}

}  // namespace titan
