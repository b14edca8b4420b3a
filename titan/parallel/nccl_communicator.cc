#include "titan/parallel/nccl_communicator.h"

#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <nccl.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "titan/parallel/nccl_group.h"

namespace titan {
namespace {

int64_t Bytes(const at::Tensor& tensor) { return tensor.numel() * static_cast<int64_t>(tensor.element_size()); }

char* Data(const at::Tensor& tensor) {
  CHECK(tensor.is_cuda()) << "NCCL carries CUDA tensors";
  return static_cast<char*>(tensor.data_ptr());
}

ncclDataType_t TypeOf(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return ncclFloat32;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kDouble:
      return ncclFloat64;
    case at::kLong:
      return ncclInt64;
    default:
      LOG(FATAL) << "no sum of " << c10::toString(tensor.scalar_type());
  }
}

ncclRedOp_t OpOf(ReduceOp op) { return op == ReduceOp::kSum ? ncclSum : ncclMax; }

class NcclWork : public Work::Handle {
 public:
  NcclWork(std::shared_ptr<NcclGroup> group, std::shared_ptr<NcclOperation> operation)
      : group_(std::move(group)), operation_(std::move(operation)) {}

  void Wait() override {
    group_->ThrowIfFailed(operation_->operation);
    operation_->done.block(c10::cuda::getCurrentCUDAStream(group_->device().index()));
    operation_->ReleaseTensors();
  }

 private:
  const std::shared_ptr<NcclGroup> group_;
  const std::shared_ptr<NcclOperation> operation_;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(const std::string& name, const std::vector<int64_t>& ranks, int64_t rank_in_group,
                   std::shared_ptr<NcclGroup> group)
      : Communicator(name, ranks, rank_in_group), group_(std::move(group)) {}

 private:
  Work Collective(CollectiveKind kind, std::vector<at::Tensor> tensors, const NcclGroup::Enqueue& enqueue) {
    return Work(std::make_shared<NcclWork>(group_, group_->Run(NameOf(kind), true, std::move(tensors), enqueue)));
  }

  Work DoAllGather(const at::Tensor& output, const at::Tensor& input) override {
    return Collective(CollectiveKind::kAllGather, {output, input}, [&](ncclComm_t comm, cudaStream_t stream) {
      ncclAllGather(Data(input), Data(output), Bytes(input), ncclUint8, comm, stream);
    });
  }

  Work DoReduceScatter(const at::Tensor& output, const at::Tensor& input, ReduceOp op) override {
    return Collective(CollectiveKind::kReduceScatter, {output, input}, [&](ncclComm_t comm, cudaStream_t stream) {
      ncclReduceScatter(Data(input), Data(output), output.numel(), TypeOf(output), OpOf(op), comm, stream);
    });
  }

  Work DoAllReduce(const at::Tensor& tensor, ReduceOp op) override {
    return Collective(CollectiveKind::kAllReduce, {tensor}, [&](ncclComm_t comm, cudaStream_t stream) {
      ncclAllReduce(Data(tensor), Data(tensor), tensor.numel(), TypeOf(tensor), OpOf(op), comm, stream);
    });
  }

  Work DoAllToAll(const at::Tensor& output, const std::vector<int64_t>& output_rows, const at::Tensor& input,
                  const std::vector<int64_t>& input_rows) override {
    int64_t row = static_cast<int64_t>(input.element_size());
    for (int64_t dim = 1; dim < input.dim(); ++dim) row *= input.size(dim);
    return Collective(CollectiveKind::kAllToAll, {output, input}, [&](ncclComm_t comm, cudaStream_t stream) {
      char* to = Data(output);
      const char* from = Data(input);
      for (int64_t r = 0; r < size(); ++r) {
        const int64_t out = output_rows[r] * row, in = input_rows[r] * row;
        if (r == rank()) {
          if (in > 0) C10_CUDA_CHECK(cudaMemcpyAsync(to, from, in, cudaMemcpyDeviceToDevice, stream));
        } else {
          if (in > 0) ncclSend(from, in, ncclUint8, static_cast<int>(r), comm, stream);
          if (out > 0) ncclRecv(to, out, ncclUint8, static_cast<int>(r), comm, stream);
        }
        to += out;
        from += in;
      }
    });
  }

  Work DoBroadcast(const at::Tensor& tensor, int64_t root) override {
    return Collective(CollectiveKind::kBroadcast, {tensor}, [&](ncclComm_t comm, cudaStream_t stream) {
      ncclBroadcast(Data(tensor), Data(tensor), Bytes(tensor), ncclUint8, static_cast<int>(root), comm, stream);
    });
  }

  Work DoExchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives) override {
    std::vector<at::Tensor> tensors;
    for (const auto* transfers : {&sends, &receives}) {
      for (const Transfer& transfer : *transfers) tensors.push_back(transfer.tensor);
    }
    const auto enqueue = [&](ncclComm_t comm, cudaStream_t stream) {
      for (const auto& [tensor, peer] : sends) {
        if (tensor.numel() == 0) continue;
        ncclSend(Data(tensor), Bytes(tensor), ncclUint8, static_cast<int>(peer), comm, stream);
      }
      for (const auto& [tensor, peer] : receives) {
        if (tensor.numel() == 0) continue;
        ncclRecv(Data(tensor), Bytes(tensor), ncclUint8, static_cast<int>(peer), comm, stream);
      }
    };
    return Work(std::make_shared<NcclWork>(group_, group_->Run("exchange", false, std::move(tensors), enqueue)));
  }

  // The one operation for which the host waits.
  void DoBarrier(std::optional<std::chrono::seconds> limit) override {
    const c10::cuda::CUDAGuard guard(group_->device());
    const at::Tensor flag = at::zeros({1}, at::TensorOptions(group_->device()).dtype(at::kFloat));
    const std::shared_ptr<NcclOperation> arrived = group_->Run(
        NameOf(CollectiveKind::kBarrier), true, {flag},
        [&](ncclComm_t comm, cudaStream_t stream) {
          ncclAllReduce(Data(flag), Data(flag), 1, ncclFloat32, ncclSum, comm, stream);
        },
        limit);
    while (!arrived->done.query()) {
      group_->ThrowIfFailed(arrived->operation);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    group_->ThrowIfFailed(arrived->operation);
  }

  const std::shared_ptr<NcclGroup> group_;
};

}  // namespace

absl::Status HasNccl() { return absl::OkStatus(); }

absl::StatusOr<std::unique_ptr<Communicator>> NewNcclCommunicator(const NcclContext& context, const std::string& name,
                                                                  const std::vector<int64_t>& ranks,
                                                                  int64_t rank_in_group, int64_t number) {
  auto group = std::make_shared<NcclGroup>(context, name, ranks, rank_in_group, number);
  if (absl::Status connected = group->Connect(); !connected.ok()) return connected;
  return std::make_unique<NcclCommunicator>(name, ranks, rank_in_group, std::move(group));
}

}  // namespace titan
