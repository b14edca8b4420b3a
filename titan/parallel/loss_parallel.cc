#include "titan/parallel/loss_parallel.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/log.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/function.h"
#include "kernels/linear_cross_entropy.h"

namespace titan {
namespace {

// Rows of logits at once: (rows, V / T), or (rows, V) where they are gathered, in the accumulation dtype.
constexpr int64_t kChunkBytes = int64_t{256} << 20;
constexpr int64_t kMinChunkRows = 128;

struct Gradients {
  at::Tensor loss, dhidden, dweight;
};

// One chunk: the losses' sum, and the gradient of the logits (rows, vocab), which are those of the vocabulary from
// `first` on. `group`: the ranks that have the others; null if there are none.
std::pair<at::Tensor, at::Tensor> ChunkLoss(const at::Tensor& logits, const at::Tensor& labels, int64_t first,
                                            Communicator* group) {
  const int64_t vocab = logits.size(1);
  const at::Tensor wide = logits.to(logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const at::Tensor local = labels - first;  // (rows): the label as a column here
  const at::Tensor valid = labels.ne(kIgnoredLabel);
  const at::Tensor is_here = at::logical_and(valid, at::logical_and(local.ge(0), local.lt(vocab)));
  const at::Tensor index = (local * is_here).unsqueeze(1);  // (rows, 1)

  const at::Tensor largest = at::amax(wide, {1}).contiguous();  // (rows)
  if (group != nullptr) group->AllReduce(largest, ReduceOp::kMax).Wait();
  at::Tensor softmax = at::exp(wide - largest.unsqueeze(1));
  const at::Tensor target = at::gather(wide, 1, index).squeeze(1) * is_here;
  const at::Tensor sums = at::cat({softmax.sum({1}), target});  // (2 rows)
  if (group != nullptr) group->AllReduce(sums).Wait();
  const at::Tensor normalizer = sums.narrow(0, 0, labels.size(0));
  const at::Tensor losses = (normalizer.log() + largest - sums.narrow(0, labels.size(0), labels.size(0))) * valid;

  softmax.mul_((valid / normalizer).unsqueeze(1));
  softmax.scatter_add_(1, index, is_here.to(softmax.scalar_type()).neg().unsqueeze(1));
  return {losses.to(at::kDouble).sum(), softmax.to(logits.scalar_type())};
}

// (rows, V / T) of each rank -> (rows, V)
at::Tensor GatherColumns(const at::Tensor& logits, Communicator& group) {
  const at::Tensor by_rank = at::empty({group.size(), logits.size(0), logits.size(1)}, logits.options());
  group.AllGather(by_rank, logits).Wait();
  return by_rank.transpose(0, 1).reshape({logits.size(0), -1});
}

// The same from the logits of the whole vocabulary.
std::pair<at::Tensor, at::Tensor> GatheredChunkLoss(const at::Tensor& logits, const at::Tensor& labels,
                                                    Communicator& group) {
  const int64_t vocab = logits.size(1);
  const auto [loss, dlogits] = ChunkLoss(GatherColumns(logits, group), labels, /*first=*/0, /*group=*/nullptr);
  return {loss, dlogits.narrow(1, group.rank() * vocab, vocab)};
}

Gradients ForwardChunks(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                        Communicator& group, bool gathers_logits) {
  const auto accumulator = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const int64_t rows = hidden.size(0);
  const int64_t vocab = weight.size(0);  // V / T
  const int64_t columns = gathers_logits ? vocab * group.size() : vocab;
  const int64_t chunk = std::max(kMinChunkRows, kChunkBytes / (columns * int64_t{4}));
  Gradients out{.loss = {},
                .dhidden = at::empty_like(hidden),
                .dweight = at::zeros(weight.sizes(), weight.options().dtype(accumulator))};
  at::Tensor total = at::zeros({}, hidden.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t count = std::min(chunk, rows - begin);
    const at::Tensor h = hidden.narrow(0, begin, count);  // (count, D)
    const at::Tensor logits = at::mm(h, weight.t());      // (count, V / T)
    const at::Tensor y = labels.narrow(0, begin, count);
    const auto [loss, dlogits] =
        gathers_logits ? GatheredChunkLoss(logits, y, group) : ChunkLoss(logits, y, group.rank() * vocab, &group);
    total += loss;
    HiddenGradient(dlogits, weight, out.dhidden.narrow(0, begin, count));
    out.dweight.add_(at::mm(dlogits.t(), h));  // (V / T, D)
  }
  out.loss = total.to(accumulator);
  out.dweight = out.dweight.to(weight.scalar_type());
  return out;
}

}  // namespace

at::Tensor VocabularyCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight_rows, const at::Tensor& labels,
                                  Communicator& group, bool gathers_logits) {
  return ApplyFunction(
      {hidden, weight_rows},
      [&](const TensorVector& in) -> Recorded {
        const Gradients out =
            ForwardChunks(in[0].contiguous(), in[1].contiguous(), labels.contiguous(), group, gathers_logits);
        return {.outputs = {out.loss}, .saved = {out.dhidden, out.dweight}};
      },
      [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
        return {saved[0] * gradients[0], saved[1] * gradients[0]};
      })[0];
}

}  // namespace titan
