#include "titan/parallel/communicator.h"

#include <numeric>

#include "absl/log/check.h"

namespace titan {
namespace {

int64_t Bytes(const at::Tensor& tensor) { return tensor.numel() * static_cast<int64_t>(tensor.element_size()); }

void CheckDense(const at::Tensor& tensor) { CHECK(tensor.is_contiguous()) << "a tensor that travels is contiguous"; }

void CheckSameType(const at::Tensor& output, const at::Tensor& input) {
  CHECK(output.scalar_type() == input.scalar_type()) << "the input has " << c10::toString(input.scalar_type())
                                                     << ", the output " << c10::toString(output.scalar_type());
}

void CheckReducible(const at::Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  CHECK(type == at::kFloat || type == at::kBFloat16 || type == at::kDouble || type == at::kLong)
      << "only float32, bfloat16, float64 and int64 are reduced, not " << c10::toString(type);
}

void CheckPeer(const Communicator& group, int64_t peer) {
  CHECK(peer >= 0 && peer < group.size() && peer != group.rank())
      << "rank " << group.rank() << " of group " << group.name() << " has no peer " << peer << " among "
      << group.size();
}

}  // namespace

const char* NameOf(CollectiveKind kind) {
  static constexpr const char* kNames[kNumCollectiveKinds] = {
      "all_gather", "reduce_scatter", "all_reduce", "all_to_all", "broadcast", "send", "recv", "barrier"};
  return kNames[static_cast<size_t>(kind)];
}

void Communicator::Count(CollectiveKind kind, int64_t bytes_sent) {
  CommunicationCount& count = counts_[static_cast<size_t>(kind)];
  ++count.calls;
  count.bytes_sent += bytes_sent;
}

Work Communicator::AllGather(const at::Tensor& output, const at::Tensor& input) {
  CheckDense(output);
  CheckDense(input);
  CHECK_EQ(output.numel(), size() * input.numel()) << "an all-gather's output holds one input for each rank";
  CheckSameType(output, input);
  Count(CollectiveKind::kAllGather, (size() - 1) * Bytes(input));
  if (size() > 1) return DoAllGather(output, input);
  if (output.data_ptr() != input.data_ptr()) output.view({-1}).copy_(input.view({-1}));
  return Work();
}

Work Communicator::ReduceScatter(const at::Tensor& output, const at::Tensor& input, ReduceOp op) {
  CheckDense(output);
  CheckDense(input);
  CHECK_EQ(input.numel(), size() * output.numel()) << "a reduce-scatter's input holds one output for each rank";
  CheckSameType(output, input);
  CheckReducible(input);
  Count(CollectiveKind::kReduceScatter, (size() - 1) * Bytes(output));
  if (size() > 1) return DoReduceScatter(output, input, op);
  if (output.data_ptr() != input.data_ptr()) output.view({-1}).copy_(input.view({-1}));
  return Work();
}

Work Communicator::AllReduce(const at::Tensor& tensor, ReduceOp op) {
  CheckDense(tensor);
  CheckReducible(tensor);
  Count(CollectiveKind::kAllReduce, 2 * (size() - 1) * Bytes(tensor) / size());
  return size() > 1 ? DoAllReduce(tensor, op) : Work();
}

Work Communicator::AllToAll(const at::Tensor& output, const at::Tensor& input) {
  CHECK_EQ(input.size(0) % size(), 0) << "an all-to-all without row counts sends equal parts";
  const std::vector<int64_t> rows(size(), input.size(0) / size());
  return AllToAll(output, rows, input, rows);
}

Work Communicator::AllToAll(const at::Tensor& output, const std::vector<int64_t>& output_rows, const at::Tensor& input,
                            const std::vector<int64_t>& input_rows) {
  CheckDense(output);
  CheckDense(input);
  CHECK_EQ(static_cast<int64_t>(input_rows.size()), size());
  CHECK_EQ(static_cast<int64_t>(output_rows.size()), size());
  const int64_t rows = std::accumulate(input_rows.begin(), input_rows.end(), int64_t{0});
  CHECK_EQ(rows, input.size(0)) << "rows to send";
  CHECK_EQ(std::accumulate(output_rows.begin(), output_rows.end(), int64_t{0}), output.size(0)) << "rows to receive";
  CHECK_EQ(input_rows[rank_], output_rows[rank_]) << "rows that stay";
  CheckSameType(output, input);
  Count(CollectiveKind::kAllToAll, rows == 0 ? 0 : Bytes(input) / rows * (rows - input_rows[rank_]));
  if (size() > 1) return DoAllToAll(output, output_rows, input, input_rows);
  output.copy_(input);
  return Work();
}

Work Communicator::Broadcast(const at::Tensor& tensor, int64_t root) {
  CheckDense(tensor);
  CHECK(root >= 0 && root < size()) << "group " << name_ << " has no rank " << root << " to broadcast from";
  Count(CollectiveKind::kBroadcast, rank_ == root && size() > 1 ? Bytes(tensor) : 0);
  return size() > 1 ? DoBroadcast(tensor, root) : Work();
}

Work Communicator::Exchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives) {
  for (const Transfer& send : sends) {
    CheckDense(send.tensor);
    CheckPeer(*this, send.peer);
    Count(CollectiveKind::kSend, Bytes(send.tensor));
  }
  for (const Transfer& receive : receives) {
    CheckDense(receive.tensor);
    CheckPeer(*this, receive.peer);
    Count(CollectiveKind::kRecv, 0);
  }
  return sends.empty() && receives.empty() ? Work() : DoExchange(sends, receives);
}

void Communicator::Barrier(std::optional<std::chrono::seconds> limit) {
  Count(CollectiveKind::kBarrier, 0);
  if (size() > 1) DoBarrier(limit);
}

}  // namespace titan
