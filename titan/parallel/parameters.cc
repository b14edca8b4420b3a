#include "titan/parallel/parameters.h"

#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/StorageImpl.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/float8.h"
#include "titan/base/status_macros.h"
#include "titan/plan/unit_layout.h"

namespace titan {
namespace {

// Reductions that may be under way at once; each holds a whole unit's gradient.
constexpr size_t kMaxReductions = 2;

absl::Status CheckShape(const std::string& name, at::IntArrayRef expected, at::IntArrayRef actual) {
  if (expected == actual) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("parameter ", name, " has the shape (", absl::StrJoin(actual, ", "),
                                                 ") where the model wants (", absl::StrJoin(expected, ", "),
                                                 "); these weights belong to another model"));
}

// The memory of a tensor, and of all views of it, goes and comes; the tensors stay.
void FreeStorage(const at::Tensor& tensor) {
  tensor.storage().unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(nullptr, tensor.device()));
}
void AllocateStorage(const at::Tensor& tensor) {
  c10::StorageImpl* const storage = tensor.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(storage->allocator()->allocate(storage->nbytes()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Parameters>> Parameters::Create(const ModelSpec& spec, const ParallelGroups& groups,
                                                               const Options& options,
                                                               const InitialValue& initial_value) {
  auto parameters = std::unique_ptr<Parameters>(new Parameters(groups, options));
  CHECK(!options.offload || options.float8_weights.empty()) << "offloaded parameters do not travel in float8";
  CHECK(!options.keep_gradient_memory || !parameters->IsSharded()) << "sharded parameters do not keep their gradients";
  absl::flat_hash_map<std::string, Reference> reference_of;
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const BlockSpec& block = spec.blocks[i];
    std::vector<Reference>& references = parameters->references_.emplace_back();
    if (!options.owned_blocks.empty() && !options.owned_blocks[i]) continue;
    for (size_t j = 0; j < block.parameters.size(); ++j) {
      const Reference reference{.unit = parameters->units_.size(), .parameter = j};
      reference_of[block.parameters[j].name] = reference;
      references.push_back(reference);
    }
    const std::vector<bool> is_float8 =
        options.float8_weights.empty() ? std::vector<bool>(block.parameters.size()) : options.float8_weights[i];
    TITAN_RETURN_IF_ERROR(parameters->AddUnit(block, is_float8, initial_value));
    for (const std::string& name : block.shared_parameters) {
      CHECK(reference_of.contains(name)) << block.name << " shares " << name << ", which no earlier block here owns";
      references.push_back(reference_of[name]);
    }
  }
  parameters->ClearGradients();
  parameters->QuantizeShards();
  return parameters;
}

absl::Status Parameters::AddUnit(const BlockSpec& block, const std::vector<bool>& is_float8,
                                 const InitialValue& initial_value) {
  const int64_t num_ranks = groups_.fsdp().size(), rank = groups_.fsdp().rank();
  const size_t index = units_.size();
  Unit& unit = units_.emplace_back();
  TITAN_ASSIGN_OR_RETURN(unit.layout, LayOutUnit(block, groups_.tp().size(), num_ranks));
  const std::vector<std::vector<int64_t>>& shapes = unit.layout.local_shapes;
  const at::TensorOptions device(options_.device);
  const at::TensorOptions home = options_.offload ? at::TensorOptions(at::kCPU) : device;
  masters_.push_back(at::zeros({unit.layout.shard_size}, home.dtype(options_.dtype)));
  const int64_t first = rank * unit.layout.shard_size, last = first + unit.layout.shard_size;
  for (size_t j = 0; j < shapes.size(); ++j) {
    const ParameterSpec& parameter = block.parameters[j];
    const int64_t begin = unit.layout.offsets[j], end = begin + c10::multiply_integers(shapes[j]);
    Piece piece{.name = parameter.name, .shape = parameter.shape, .split = parameter.split, .local_shape = shapes[j]};
    piece.begin = std::clamp(first, begin, end) - begin;
    piece.end = std::clamp(last, begin, end) - begin;
    piece.unit = index;
    piece.start = begin;
    piece.offset = piece.begin == piece.end ? 0 : begin + piece.begin - first;
    TITAN_ASSIGN_OR_RETURN(const at::Tensor value, initial_value(parameter));
    TITAN_RETURN_IF_ERROR(CheckShape(parameter.name, parameter.shape, value.sizes()));
    Assign(piece, value, masters_);
    pieces_.push_back(std::move(piece));
  }

  if (options_.offload && options_.compute_dtype == options_.dtype) {
    masters_.back() = HostCopy(masters_.back(), options_.dtype);
    unit.computed = masters_.back();
  } else if (options_.offload) {
    unit.computed = HostCopy(masters_.back(), options_.compute_dtype);
  } else {
    unit.computed = masters_.back().to(options_.compute_dtype);  // the same tensor if nothing changes
  }
  AddWeights(unit, is_float8);
  return absl::OkStatus();
}

// The element from which on a unit travels in float8: if nothing else comes after these weights, and what comes before
// them is rank 0's alone. Else the unit's end.
int64_t Parameters::Float8Begin(const Unit& unit, const std::vector<bool>& is_float8) const {
  int64_t float8_begin = WholeSize(unit), others_end = 0;
  for (size_t j = 0; j < is_float8.size(); ++j) {
    const int64_t begin = unit.layout.offsets[j];
    if (is_float8[j]) {
      float8_begin = std::min(float8_begin, begin);
    } else {
      others_end = std::max(others_end, begin + c10::multiply_integers(unit.layout.local_shapes[j]));
    }
  }
  return others_end <= float8_begin && float8_begin <= unit.layout.shard_size ? float8_begin : WholeSize(unit);
}

// What blocks see.
void Parameters::AddWeights(Unit& unit, const std::vector<bool>& is_float8) {
  const std::vector<std::vector<int64_t>>& shapes = unit.layout.local_shapes;
  const at::TensorOptions device(options_.device);
  unit.float8_begin = Float8Begin(unit, is_float8);
  const bool in_float8 = unit.float8_begin < WholeSize(unit);
  if (in_float8) {
    unit.inverse_scales.resize(shapes.size());
    const at::TensorOptions e4m3 = device.dtype(at::kFloat8_e4m3fn);
    unit.computed_float8 = at::empty({unit.layout.shard_size}, e4m3);
    unit.gathered_float8 = IsSharded() ? at::empty({WholeSize(unit)}, e4m3) : unit.computed_float8;
  }
  unit.gathered = Gathers() ? at::empty({unit.float8_begin}, device.dtype(options_.compute_dtype)) : unit.computed;
  for (size_t j = 0; j < shapes.size(); ++j) {
    const at::Tensor& whole = in_float8 && is_float8[j] ? unit.gathered_float8 : unit.gathered;
    unit.weights.push_back(whole.narrow(0, unit.layout.offsets[j], c10::multiply_integers(shapes[j])).view(shapes[j]));
    if (in_float8 && is_float8[j]) unit.inverse_scales[j] = at::empty({}, device.dtype(at::kFloat));
  }
  if (Gathers()) FreeStorage(unit.gathered);
  if (in_float8 && IsSharded()) FreeStorage(unit.gathered_float8);
}

std::vector<at::Tensor> Parameters::InverseScales(size_t block) {
  std::vector<at::Tensor> scales;
  for (const Reference& reference : references_[block]) {
    const Unit& unit = units_[reference.unit];
    scales.push_back(unit.inverse_scales.empty() ? at::Tensor() : unit.inverse_scales[reference.parameter]);
  }
  return scales;
}

// This rank's part of the weights that travel in float8, from its compute copies. Whole weights give the same bytes.
void Parameters::QuantizeShards() {
  struct Part {
    at::Tensor from, to;  // (count)
    at::Tensor inverse_scale;
  };
  std::vector<Part> parts;
  size_t index = 0;  // into pieces_
  for (const Unit& unit : units_) {
    for (size_t j = 0; j < unit.weights.size(); ++j, ++index) {
      if (unit.inverse_scales.empty() || !unit.inverse_scales[j].defined()) continue;
      const Piece& piece = pieces_[index];
      const int64_t count = piece.end - piece.begin;
      parts.push_back({unit.computed.narrow(0, piece.offset, count),
                       unit.computed_float8.narrow(0, piece.offset, count), unit.inverse_scales[j]});
    }
  }
  if (parts.empty()) return;
  const int64_t ranks = groups_.fsdp().size(), count = static_cast<int64_t>(parts.size());
  const at::Tensor mine = at::zeros({count}, at::TensorOptions(options_.device).dtype(at::kFloat));
  for (int64_t i = 0; i < count; ++i) AddLargestMagnitude(mine.select(0, i), parts[i].from);
  const at::Tensor all = at::empty({ranks, count}, mine.options());
  groups_.fsdp().AllGather(all, mine).Wait();
  const at::Tensor largest = at::amax(all, {0}), inverse_scales = InverseFloat8Scale(largest);
  for (int64_t i = 0; i < count; ++i) {
    QuantizeFloat8Into(parts[i].to, parts[i].from, largest.select(0, i));
    parts[i].inverse_scale.copy_(inverse_scales.select(0, i));
  }
}

// From where, for a GPU, it can be copied while the host does something else.
at::Tensor Parameters::HostCopy(const at::Tensor& tensor, at::ScalarType dtype) const {
  at::Tensor copy = copies_.NewHostTensor(tensor.numel(), dtype);
  return copy.copy_(tensor);
}

at::Tensor Parameters::LocalPart(const Piece& piece, const at::Tensor& value) const {
  if (piece.split == TensorSplit::kReplicated || groups_.tp().size() == 1) return value;
  const int64_t dimension = SplitDimension(piece.split);
  const int64_t extent = piece.local_shape[dimension];
  return value.narrow(dimension, groups_.tp().rank() * extent, extent);
}

void Parameters::Assign(const Piece& piece, const at::Tensor& value, const std::vector<at::Tensor>& units) const {
  const int64_t count = piece.end - piece.begin;
  if (count == 0) return;
  units[piece.unit]
      .narrow(0, piece.offset, count)
      .copy_(LocalPart(piece, value).reshape({-1}).narrow(0, piece.begin, count));
}

at::Tensor Parameters::View(const Piece& piece, const std::vector<at::Tensor>& units) const {
  const at::Tensor flat = units[piece.unit].narrow(0, piece.offset, piece.end - piece.begin);
  return flat.numel() == c10::multiply_integers(piece.local_shape) ? flat.view(piece.local_shape) : flat;
}

int64_t Parameters::num_replicated(size_t unit) const {
  const int64_t first = groups_.fsdp().rank() * units_[unit].layout.shard_size;
  return std::clamp<int64_t>(units_[unit].layout.replicated_size - first, 0, units_[unit].layout.shard_size);
}

at::Tensor Parameters::Gather(size_t index, const std::vector<at::Tensor>& units) const {
  const Piece& piece = pieces_[index];
  const Communicator& fsdp = groups_.fsdp();
  const int64_t shard_size = units_[piece.unit].layout.shard_size;
  at::Tensor part = View(piece, units).to(options_.device);  // of this rank by tensor parallelism
  if (IsSharded()) {
    // Each rank sends as many elements as fit all, its piece first.
    const int64_t numel = c10::multiply_integers(piece.local_shape), capacity = std::min(numel, shard_size);
    at::Tensor sent = at::zeros({capacity}, part.options());
    sent.narrow(0, 0, part.numel()).copy_(part.reshape({-1}));
    const at::Tensor received = at::empty({fsdp.size() * capacity}, part.options());
    groups_.fsdp().AllGather(received, sent).Wait();
    at::Tensor whole = at::empty({numel}, part.options());
    for (int64_t rank = 0; rank < fsdp.size(); ++rank) {
      const int64_t begin = std::clamp<int64_t>(rank * shard_size - piece.start, 0, numel);
      const int64_t end = std::clamp<int64_t>((rank + 1) * shard_size - piece.start, 0, numel);
      whole.narrow(0, begin, end - begin).copy_(received.narrow(0, rank * capacity, end - begin));
    }
    part = whole.view(piece.local_shape);
  }
  if (piece.split != TensorSplit::kReplicated && groups_.tp().size() > 1) {
    const int64_t tp_size = groups_.tp().size();
    const at::Tensor received = at::empty({tp_size * part.numel()}, part.options());
    groups_.tp().AllGather(received, part.contiguous()).Wait();
    std::vector<at::Tensor> parts;
    for (int64_t rank = 0; rank < tp_size; ++rank) {
      parts.push_back(received.narrow(0, rank * part.numel(), part.numel()).view(piece.local_shape));
    }
    part = at::cat(parts, SplitDimension(piece.split));
  }
  const bool keeps = fsdp.rank() == 0 && groups_.tp().rank() == 0 && groups_.replicate().rank() == 0;
  return keeps ? part.cpu() : at::Tensor();
}

void Parameters::BeginStep(int64_t num_microbatches) {
  ClearGradients();
  num_microbatches_ = num_microbatches;
}

void Parameters::ClearGradients() {
  gradients_.assign(masters_.size(), at::Tensor());
  for (Unit& unit : units_) {
    unit.arrived = 0;
    unit.whole_gradient.reset();
    ForgetSums(unit);
  }
}

std::vector<at::Tensor> Parameters::copies() const {
  std::vector<at::Tensor> copies;
  if (options_.compute_dtype == options_.dtype) return copies;
  for (const Unit& unit : units_) copies.push_back(unit.computed);
  return copies;
}

void Parameters::RoundMasters() {
  if (const std::vector<at::Tensor> rounded = copies(); !rounded.empty()) at::_foreach_copy_(rounded, masters_);
}

void Parameters::FreeGathered() {
  for (Unit& unit : units_) Free(unit);
}

void Parameters::FinishUpdate() {
  FreeGathered();
  QuantizeShards();
}

void Parameters::StartGather(Unit& unit) {
  if (!Gathers() || unit.is_gathered) return;
  AllocateStorage(unit.gathered);
  if (options_.offload) {
    StartUpload(unit);
  } else if (unit.computed_float8.defined()) {
    GatherFloat8(unit);
  } else {
    unit.gather = groups_.fsdp().AllGather(unit.gathered, unit.computed);
  }
  unit.is_gathered = true;
}

void Parameters::GatherFloat8(Unit& unit) {
  AllocateStorage(unit.gathered_float8);
  if (unit.float8_begin > 0) {
    // As in StartUpload: graphs that hold weights are not told that their memory is filled again.
    if (groups_.fsdp().rank() == 0) {
      unit.gathered.variable_data().copy_(unit.computed.narrow(0, 0, unit.float8_begin));
    }
    unit.gather = groups_.fsdp().Broadcast(unit.gathered, /*root=*/0);
  }
  unit.float8_gather = groups_.fsdp().AllGather(unit.gathered_float8, unit.computed_float8);
}

// On the copy stream, so that it runs beside the block that computes now; but after what the current stream has got,
// which may still use the memory that is written to. The gather begins on the copy stream, too: its communicator makes
// it wait for the stream that is current there, and so for the copy.
void Parameters::StartUpload(Unit& unit) {
  // Graphs that hold weights are not told that their memory is filled again: it is with the same values.
  unit.uploaded =
      IsSharded() ? at::empty(unit.computed.sizes(), unit.gathered.options()) : unit.gathered.variable_data();
  copies_.Run([&] {
    unit.uploaded.copy_(unit.computed, /*non_blocking=*/true);
    if (IsSharded()) unit.gather = groups_.fsdp().AllGather(unit.gathered, unit.uploaded);
  });
}

// What is computed from here on sees the weights; and may use the memory of the uploaded shard, of which the gather has
// read all.
void Parameters::FinishGather(Unit& unit) {
  unit.gather.Wait();
  unit.float8_gather.Wait();
  if (!unit.uploaded.defined()) return;
  if (!IsSharded()) copies_.Join();
  unit.uploaded.reset();
}

void Parameters::Free(Unit& unit) {
  if (!Gathers() || !unit.is_gathered) return;
  FinishGather(unit);  // prefetched and never used
  FreeStorage(unit.gathered);
  if (unit.gathered_float8.defined()) FreeStorage(unit.gathered_float8);
  unit.is_gathered = false;
}

void Parameters::Prefetch(size_t block) {
  for (const Reference& reference : references_[block]) StartGather(units_[reference.unit]);
}

std::vector<at::Tensor> Parameters::Weights(size_t block) {
  Prefetch(block);
  std::vector<at::Tensor> weights;
  for (const Reference& reference : references_[block]) {
    Unit& unit = units_[reference.unit];
    FinishGather(unit);
    weights.push_back(unit.weights[reference.parameter]);
  }
  return weights;
}

void Parameters::Release(size_t block) {
  for (const Reference& reference : references_[block]) {
    Unit& unit = units_[reference.unit];
    if (options_.reshard_after_forward || unit.arrived == num_microbatches_) Free(unit);
  }
}

// What lies between parameters, which is counted in norms.
void Parameters::ZeroGaps(const Unit& unit, const at::Tensor& gradient) const {
  std::vector<std::pair<int64_t, int64_t>> taken;  // [begin, end) of each parameter
  for (size_t j = 0; j < unit.weights.size(); ++j) {
    taken.emplace_back(unit.layout.offsets[j], unit.layout.offsets[j] + unit.weights[j].numel());
  }
  std::sort(taken.begin(), taken.end());
  taken.emplace_back(gradient.numel(), gradient.numel());
  int64_t end = 0;
  for (const auto& [begin, next_end] : taken) {
    if (begin > end) gradient.narrow(0, end, begin - end).zero_();
    end = next_end;
  }
}

// Memory for a unit's gradients.
void Parameters::NewWholeGradient(Unit& unit) const {
  unit.whole_gradient = unit.gradient_memory;
  if (unit.whole_gradient.defined()) return;
  const at::Tensor gradient = at::empty({WholeSize(unit)}, unit.gathered.options().dtype(options_.dtype));
  ZeroGaps(unit, gradient);
  for (size_t j = 0; j < unit.weights.size(); ++j) {
    const at::Tensor& weight = unit.weights[j];
    unit.sums.push_back({gradient.narrow(0, unit.layout.offsets[j], weight.numel()).view(weight.sizes())});
  }
  unit.whole_gradient = gradient;
  if (options_.keep_gradient_memory) unit.gradient_memory = gradient;
}

// They hold on to whole_gradient.
void Parameters::ForgetSums(Unit& unit) const {
  if (!options_.keep_gradient_memory) return unit.sums.clear();
  for (GradientSum& sum : unit.sums) sum.has_value = false;
}

GradientSum* Parameters::SumOfGradients(size_t block, size_t weight) {
  const auto [index, parameter] = references_[block][weight];
  Unit& unit = units_[index];
  if (!unit.whole_gradient.defined()) NewWholeGradient(unit);
  return &unit.sums[parameter];
}

void Parameters::AddGradients(size_t block, std::vector<at::Tensor> gradients) {
  const std::vector<Reference>& references = references_[block];
  CHECK_EQ(gradients.size(), references.size());
  for (size_t i = 0; i < references.size(); ++i) {
    if (!gradients[i].defined()) continue;
    SumOfGradients(block, i)->Add(gradients[i]);
    gradients[i].reset();
  }
  // Blocks that share a unit come before its owner, on the way back.
  const size_t owned = references.front().unit;
  Unit& unit = units_[owned];
  ++unit.arrived;
  CHECK_LE(unit.arrived, num_microbatches_) << "more microbatches than BeginStep was told";
  const bool reduces_now = options_.reduce_every_microbatch && IsSharded();
  if (reduces_now || unit.arrived == num_microbatches_) StartReduction(owned);
}

void Parameters::StartReduction(size_t index) {
  Unit& unit = units_[index];
  const at::Tensor whole = std::exchange(unit.whole_gradient, at::Tensor());
  ForgetSums(unit);
  if (IsSharded()) {
    unit.reduced = at::empty({unit.layout.shard_size}, whole.options());
    unit.reduction = groups_.fsdp().ReduceScatter(unit.reduced, whole);
  } else {
    unit.reduced = whole;
  }
  reducing_.push_back(index);
  if (reducing_.size() > (IsSharded() ? kMaxReductions : 0)) FinishReduction(reducing_.front());
}

void Parameters::FinishReduction(size_t index) {
  CHECK_EQ(reducing_.front(), index);
  reducing_.pop_front();
  Unit& unit = units_[index];
  unit.reduction.Wait();
  const at::Tensor reduced = std::exchange(unit.reduced, at::Tensor());
  at::Tensor& sum = gradients_[index];
  sum = sum.defined() ? sum.add_(reduced) : reduced;
  if (unit.arrived < num_microbatches_) return;
  if (groups_.replicate().size() == 1) return TakeHome(index);
  unit.reduction = groups_.replicate().AllReduce(sum);
  replicating_.push_back(index);
  if (options_.offload && replicating_.size() > kMaxReductions) FinishReplication(replicating_.front());
}

void Parameters::FinishReplication(size_t index) {
  CHECK_EQ(replicating_.front(), index);
  replicating_.pop_front();
  units_[index].reduction.Wait();
  TakeHome(index);
}

// A unit's gradient is final but for what tensor parallelism adds up.
void Parameters::TakeHome(size_t index) {
  if (!options_.offload) return;
  const at::Tensor on_device = std::move(gradients_[index]);
  gradients_[index] = copies_.NewHostTensor(on_device.numel(), options_.dtype);
  copies_.CopyToHost(gradients_[index], on_device);
}

void Parameters::FinishGradients() {
  while (!reducing_.empty()) FinishReduction(reducing_.front());
  while (!replicating_.empty()) FinishReplication(replicating_.front());
  // The host reads the gradients next, and changes what was uploaded.
  if (options_.offload) copies_.Finish();
  if (options_.sequence_parallel && groups_.tp().size() > 1) AddUpReplicatedGradients();
}

// Those of norms, which see only this rank's tokens.
void Parameters::AddUpReplicatedGradients() {
  std::vector<at::Tensor> parts;
  for (size_t unit = 0; unit < units_.size(); ++unit) {
    if (num_replicated(unit) > 0) parts.push_back(gradients_[unit].narrow(0, 0, num_replicated(unit)));
  }
  if (parts.empty()) return;  // then the other ranks of the group, which share the same pieces, have none either
  const at::Tensor sum = at::cat(parts).to(options_.device);
  groups_.tp().AllReduce(sum).Wait();
  int64_t offset = 0;
  for (at::Tensor& part : parts) {
    part.copy_(sum.narrow(0, offset, part.numel()));
    offset += part.numel();
  }
}

}  // namespace titan
