#include "titan/parallel/communicator.h"

#include <numeric>

#include "absl/log/check.h"

namespace titan {
namespace {

int64_t Bytes(const at::Tensor& tensor) { return tensor.numel() * static_cast<int64_t>(tensor.element_size()); }

void CheckDense(const at::Tensor& tensor) { CHECK(tensor.is_contiguous()) << "a tensor that travels is contiguous"; }

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
  CHECK_EQ(output.numel(), size() * input.numel());
  CHECK(output.scalar_type() == input.scalar_type());
  Count(CollectiveKind::kAllGather, (size() - 1) * Bytes(input));
  if (size() > 1) return DoAllGather(output, input);
  if (output.data_ptr() != input.data_ptr()) output.view({-1}).copy_(input.view({-1}));
  return Work();
}

Work Communicator::ReduceScatter(const at::Tensor& output, const at::Tensor& input, ReduceOp op) {
  CheckDense(output);
  CheckDense(input);
  CHECK_EQ(input.numel(), size() * output.numel());
  CHECK(output.scalar_type() == input.scalar_type());
  Count(CollectiveKind::kReduceScatter, (size() - 1) * Bytes(output));
  if (size() > 1) return DoReduceScatter(output, input, op);
  if (output.data_ptr() != input.data_ptr()) output.view({-1}).copy_(input.view({-1}));
  return Work();
}

Work Communicator::AllReduce(const at::Tensor& tensor, ReduceOp op) {
  CheckDense(tensor);
  Count(CollectiveKind::kAllReduce, 2 * (size() - 1) * Bytes(tensor) / size());
  return size() > 1 ? DoAllReduce(tensor, op) : Work();
}

Work Communicator::AllToAll(const at::Tensor& output, const at::Tensor& input) {
  CHECK_EQ(input.size(0) % size(), 0);
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
  CHECK_EQ(rows, input.size(0));
  CHECK_EQ(std::accumulate(output_rows.begin(), output_rows.end(), int64_t{0}), output.size(0));
  Count(CollectiveKind::kAllToAll, rows == 0 ? 0 : Bytes(input) / rows * (rows - input_rows[rank_]));
  if (size() > 1) return DoAllToAll(output, output_rows, input, input_rows);
  output.copy_(input);
  return Work();
}

Work Communicator::Broadcast(const at::Tensor& tensor, int64_t root) {
  CheckDense(tensor);
  Count(CollectiveKind::kBroadcast, rank_ == root && size() > 1 ? Bytes(tensor) : 0);
  return size() > 1 ? DoBroadcast(tensor, root) : Work();
}

Work Communicator::Exchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives) {
  for (const Transfer& send : sends) {
    CheckDense(send.tensor);
    CHECK_NE(send.peer, rank_) << "a rank does not send to itself";
    Count(CollectiveKind::kSend, Bytes(send.tensor));
  }
  for (const Transfer& receive : receives) {
    CheckDense(receive.tensor);
    CHECK_NE(receive.peer, rank_) << "a rank does not receive from itself";
    Count(CollectiveKind::kRecv, 0);
  }
  return sends.empty() && receives.empty() ? Work() : DoExchange(sends, receives);
}

void Communicator::Barrier() {
  Count(CollectiveKind::kBarrier, 0);
  if (size() > 1) DoBarrier();
}

}  // namespace titan
