#include "titan/parallel/tensor_parallel.h"

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
#include <vector>

#include "kernels/embedding.h"
#include "kernels/function.h"
#include "kernels/linear_cross_entropy.h"

namespace titan {
namespace {

at::Tensor AllGatherRows(const at::Tensor& x, Communicator& group) {
  const at::Tensor mine = x.contiguous();
  std::vector<int64_t> shape = mine.sizes().vec();
  shape[0] *= group.size();
  at::Tensor all = at::empty(shape, mine.options());
  group.AllGather(all, mine).Wait();
  return all;
}

at::Tensor SumAndScatterRows(const at::Tensor& x, Communicator& group) {
  const at::Tensor summand = x.contiguous();
  std::vector<int64_t> shape = summand.sizes().vec();
  TORCH_CHECK(shape[0] % group.size() == 0, "tensor parallelism of ", group.size(), " cannot cut ", shape[0],
              " tokens into equal parts");
  shape[0] /= group.size();
  at::Tensor mine = at::empty(shape, summand.options());
  group.ReduceScatter(mine, summand).Wait();
  return mine;
}

// Rows of logits at once: (rows, V / T) in the accumulation dtype.
constexpr int64_t kChunkBytes = int64_t{256} << 20;
constexpr int64_t kMinChunkRows = 128;

struct Gradients {
  at::Tensor loss, dhidden, dweight;
};

// One chunk: the losses' sum, and the gradient of the logits (rows, V / T).
std::pair<at::Tensor, at::Tensor> ChunkLoss(const at::Tensor& logits, const at::Tensor& labels, Communicator& group) {
  const int64_t vocab = logits.size(1);
  const at::Tensor wide = logits.to(logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const at::Tensor local = labels - group.rank() * vocab;  // (rows): the label as a column here
  const at::Tensor valid = labels.ne(kIgnoredLabel);
  const at::Tensor is_here = at::logical_and(valid, at::logical_and(local.ge(0), local.lt(vocab)));
  const at::Tensor index = (local * is_here).unsqueeze(1);  // (rows, 1)

  const at::Tensor largest = at::amax(wide, {1}).contiguous();  // (rows)
  group.AllReduce(largest, ReduceOp::kMax).Wait();
  at::Tensor softmax = at::exp(wide - largest.unsqueeze(1));
  const at::Tensor target = at::gather(wide, 1, index).squeeze(1) * is_here;
  const at::Tensor sums = at::cat({softmax.sum({1}), target});  // (2 rows)
  group.AllReduce(sums).Wait();
  const at::Tensor normalizer = sums.narrow(0, 0, labels.size(0));
  const at::Tensor losses = (normalizer.log() + largest - sums.narrow(0, labels.size(0), labels.size(0))) * valid;

  softmax.mul_((valid / normalizer).unsqueeze(1));
  softmax.scatter_add_(1, index, is_here.to(softmax.scalar_type()).neg().unsqueeze(1));
  return {losses.to(at::kDouble).sum(), softmax.to(logits.scalar_type())};
}

Gradients ForwardChunks(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                        Communicator& group) {
  const auto accumulator = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const int64_t rows = hidden.size(0);
  const int64_t chunk = std::max(kMinChunkRows, kChunkBytes / (weight.size(0) * int64_t{4}));
  Gradients out{.loss = {},
                .dhidden = at::empty_like(hidden),
                .dweight = at::zeros(weight.sizes(), weight.options().dtype(accumulator))};
  at::Tensor total = at::zeros({}, hidden.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t count = std::min(chunk, rows - begin);
    const at::Tensor h = hidden.narrow(0, begin, count);  // (count, D)
    const auto [loss, dlogits] = ChunkLoss(at::mm(h, weight.t()), labels.narrow(0, begin, count), group);
    total += loss;
    out.dhidden.narrow(0, begin, count).copy_(at::mm(dlogits, weight));
    out.dweight.add_(at::mm(dlogits.t(), h));  // (V / T, D)
  }
  out.loss = total.to(accumulator);
  out.dweight = out.dweight.to(weight.scalar_type());
  return out;
}

}  // namespace

at::Tensor GatherRows(const at::Tensor& x, Communicator& group) {
  return ApplyFunction(
      {x}, [&](const TensorVector& in) -> Recorded { return {.outputs = {AllGatherRows(in[0], group)}, .saved = {}}; },
      [&group](const TensorVector&, const TensorVector& gradients) -> TensorVector {
        return {SumAndScatterRows(gradients[0], group)};
      })[0];
}

at::Tensor ReduceScatterRows(const at::Tensor& x, Communicator& group) {
  return ApplyFunction(
      {x},
      [&](const TensorVector& in) -> Recorded { return {.outputs = {SumAndScatterRows(in[0], group)}, .saved = {}}; },
      [&group](const TensorVector&, const TensorVector& gradients) -> TensorVector {
        return {AllGatherRows(gradients[0], group)};
      })[0];
}

at::Tensor VocabularyEmbedding(const at::Tensor& tokens, const at::Tensor& table_rows, const Communicator& group) {
  const int64_t rows = table_rows.size(0);
  const at::Tensor local = tokens - group.rank() * rows;
  const at::Tensor is_here = at::logical_and(local.ge(0), local.lt(rows));
  return Embedding(local * is_here, table_rows) * is_here.unsqueeze(-1);
}

at::Tensor VocabularyCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight_rows, const at::Tensor& labels,
                                  Communicator& group) {
  return ApplyFunction(
      {hidden, weight_rows},
      [&](const TensorVector& in) -> Recorded {
        const Gradients out = ForwardChunks(in[0].contiguous(), in[1].contiguous(), labels.contiguous(), group);
        return {.outputs = {out.loss}, .saved = {out.dhidden, out.dweight}};
      },
      [](const TensorVector& saved, const TensorVector& gradients) -> TensorVector {
        return {saved[0] * gradients[0], saved[1] * gradients[0]};
      })[0];
}

}  // namespace titan
