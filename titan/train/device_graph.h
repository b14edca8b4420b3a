// Work of a device, recorded once and done again with one launch (CUDA graphs): for work of so many small kernels that
// the host cannot launch them as fast as they run.
//
//   const std::unique_ptr<DeviceGraph> graph = DeviceGraph::Record(device, [&] { at::mul_out(y, x, x); }, nullptr);
//   x.fill_(2);
//   graph->Replay();  // y is 4 now
//
// The work reads and writes tensors that were there before it; its own are gone when it is done. It must not wait for
// the device, and must have run before, so that libraries have set themselves up. On the CPU nothing is recorded:
// Replay calls the work.

#ifndef TITAN_TRAIN_DEVICE_GRAPH_H_
#define TITAN_TRAIN_DEVICE_GRAPH_H_

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace titan {

class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;

  // On a GPU calls `work` and notes what it enqueues, which does not run. `neighbor`, if not null, is a graph of the
  // same device that is never under way together with this one: they use the same memory for what is their own. Throws
  // what `work` throws, and c10::Error for work that cannot be recorded.
  static std::unique_ptr<DeviceGraph> Record(c10::Device device, std::function<void()> work, DeviceGraph* neighbor);

  // Enqueues what was recorded on the current stream.
  virtual void Replay() = 0;
};

}  // namespace titan

#endif  // TITAN_TRAIN_DEVICE_GRAPH_H_
