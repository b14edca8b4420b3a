// The device of a run, and how much memory the run took.

#ifndef TITAN_TRAIN_DEVICE_H_
#define TITAN_TRAIN_DEVICE_H_

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace titan::config {
class Cluster;
}

namespace titan {

// The CPU for cluster.accelerator "cpu", otherwise the GPU of this index, which becomes the current device.
// InvalidArgument if it is not there.
absl::StatusOr<c10::Device> DeviceFor(const config::Cluster& cluster, int64_t local_rank = 0);

// Peak bytes so far: reserved on the GPU by LibTorch's allocator, resident set of the process on the CPU.
int64_t PeakMemoryBytes(c10::Device device);

// "cpu, 2 threads", "h200".
std::string DescribeDevice(const config::Cluster& cluster);

}  // namespace titan

#endif  // TITAN_TRAIN_DEVICE_H_
