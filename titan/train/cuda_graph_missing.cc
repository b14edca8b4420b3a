// Builds without --config=cuda never see a GPU.

#include <c10/util/Exception.h>

#include "titan/train/cuda_graph.h"

namespace titan {

std::unique_ptr<DeviceGraph> RecordCudaGraph(const std::function<void()>&, DeviceGraph*) {
  TORCH_CHECK(false, "this program was built without GPUs; build it with --config=cuda");
}

}  // namespace titan
