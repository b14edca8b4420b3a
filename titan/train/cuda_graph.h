// DeviceGraph on a GPU, where there are any in this build.

#ifndef TITAN_TRAIN_CUDA_GRAPH_H_
#define TITAN_TRAIN_CUDA_GRAPH_H_

#include <functional>
#include <memory>

#include "titan/train/device_graph.h"

namespace titan {

std::unique_ptr<DeviceGraph> RecordCudaGraph(const std::function<void()>& work, DeviceGraph* neighbor);

}  // namespace titan

#endif  // TITAN_TRAIN_CUDA_GRAPH_H_
