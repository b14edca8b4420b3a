#include "titan/train/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <sys/resource.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/config/experiment.pb.h"
#include "titan/plan/accelerators.h"

namespace titan {

absl::StatusOr<c10::Device> DeviceFor(const config::Cluster& cluster, int64_t local_rank) {
  if (cluster.accelerator() == config::Cluster::ACCELERATOR_CPU) return c10::Device(c10::kCPU);
  if (at::hasCUDA()) {
    const c10::impl::VirtualGuardImpl gpus(c10::kCUDA);
    if (local_rank >= gpus.deviceCount()) {
      return absl::InvalidArgumentError(
          absl::StrCat("process ", local_rank, " of this machine has no GPU: there are ", gpus.deviceCount(),
                       "; start one process per GPU (--nproc, cluster.devices_per_node)"));
    }
    const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(local_rank));
    gpus.setDevice(device);
    return device;
  }
  const bool can_cuda = at::globalContext().hasCUDART();
  return absl::InvalidArgumentError(
      absl::StrCat("cluster.accelerator is ", FactsOf(cluster.accelerator()).name, ", but ",
                   can_cuda ? "this machine shows no CUDA device" : "this trainer was built without CUDA", ". Use ",
                   can_cuda ? "a machine with a GPU and its driver" : "a bundle built with --config=cuda",
                   ", or run on the CPU with --set cluster.accelerator=cpu"));
}

int64_t PeakMemoryBytes(c10::Device device) {
  if (device.is_cuda()) {
    const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    return stats.reserved_bytes[0].peak;  // [0]: of all pools together
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

std::string DescribeDevice(const config::Cluster& cluster) {
  const std::string name = FactsOf(cluster.accelerator()).name;
  if (cluster.accelerator() != config::Cluster::ACCELERATOR_CPU) return name;
  return absl::StrCat(name, ", ", at::get_num_threads(), at::get_num_threads() == 1 ? " thread" : " threads");
}

}  // namespace titan
