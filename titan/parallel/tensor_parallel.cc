#include "titan/parallel/tensor_parallel.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logical_and.h>

#include <cstdint>
#include <vector>

#include "kernels/embedding.h"
#include "kernels/function.h"

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

at::Tensor SumOfRanks(const at::Tensor& x, Communicator& group) {
  at::Tensor sum = at::empty(x.sizes(), x.options());  // never x itself: others may hold it
  group.AllReduce(sum.copy_(x)).Wait();
  return sum;
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

at::Tensor AllReduceSum(const at::Tensor& x, Communicator& group) {
  return ApplyFunction(
      {x}, [&](const TensorVector& in) -> Recorded { return {.outputs = {SumOfRanks(in[0], group)}, .saved = {}}; },
      [](const TensorVector&, const TensorVector& gradients) -> TensorVector { return gradients; })[0];
}

at::Tensor AllReduceGradient(const at::Tensor& x, Communicator& group) {
  return ApplyFunction(
      {x}, [](const TensorVector& in) -> Recorded { return {.outputs = in, .saved = {}}; },
      [&group](const TensorVector&, const TensorVector& gradients) -> TensorVector {
        return {SumOfRanks(gradients[0], group)};
      })[0];
}

at::Tensor VocabularyEmbedding(const at::Tensor& tokens, const at::Tensor& table_rows, const Communicator& group) {
  const int64_t rows = table_rows.size(0);
  const at::Tensor local = tokens - group.rank() * rows;
  const at::Tensor is_here = at::logical_and(local.ge(0), local.lt(rows));
  return Embedding(local * is_here, table_rows) * is_here.unsqueeze(-1);
}

}  // namespace titan
