#include "titan/train/cuda_graph.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace titan {
namespace {

class CudaGraph : public DeviceGraph {
 public:
  CudaGraph(const std::function<void()>& work, DeviceGraph* neighbor) {
    // The default stream cannot be recorded. What it was given is done first, since `work` may read it.
    c10::cuda::device_synchronize();
    const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
    const c10::MempoolId_t pool =
        neighbor == nullptr ? at::cuda::graph_pool_handle() : static_cast<CudaGraph*>(neighbor)->graph_.pool();
    // What other threads ask of CUDA meanwhile, such as whether a collective has finished, is no part of the work.
    graph_.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    try {
      work();
    } catch (...) {
      EndAfterError();
      throw;
    }
    graph_.capture_end();
  }

  void Replay() override { graph_.replay(); }

 private:
  // The stream must leave its mode; that what it recorded is of no use is known.
  void EndAfterError() {
    try {
      graph_.capture_end();
    } catch (const c10::Error&) {
      // The work's own error says more.
    }
  }

  at::cuda::CUDAGraph graph_;
};

}  // namespace

std::unique_ptr<DeviceGraph> RecordCudaGraph(const std::function<void()>& work, DeviceGraph* neighbor) {
  return std::make_unique<CudaGraph>(work, neighbor);
}

}  // namespace titan
