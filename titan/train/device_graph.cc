#include "titan/train/device_graph.h"

#include <utility>

#include "titan/train/cuda_graph.h"

namespace titan {
namespace {

class HostWork : public DeviceGraph {
 public:
  explicit HostWork(std::function<void()> work) : work_(std::move(work)) {}
  void Replay() override { work_(); }

 private:
  const std::function<void()> work_;
};

}  // namespace

std::unique_ptr<DeviceGraph> DeviceGraph::Record(c10::Device device, std::function<void()> work,
                                                 DeviceGraph* neighbor) {
  if (device.is_cpu()) return std::make_unique<HostWork>(std::move(work));
  return RecordCudaGraph(work, neighbor);
}

}  // namespace titan
