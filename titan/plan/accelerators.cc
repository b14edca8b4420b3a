#include "titan/plan/accelerators.h"

#include "absl/log/log.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

constexpr int64_t MiB(int64_t count) { return count << 20; }

// Peaks: NVIDIA's data sheets without sparsity, the same figures that torchtitan divides by. Memory: the total that the
// CUDA driver reports for the SXM module, less than the name of the product says.
constexpr AcceleratorFacts kCpu = {.name = "cpu", .peak_flops = 0, .memory_bytes = 0};
constexpr AcceleratorFacts kA100 = {.name = "a100", .peak_flops = 312e12, .memory_bytes = MiB(81'040)};
constexpr AcceleratorFacts kH100 = {.name = "h100", .peak_flops = 989e12, .memory_bytes = MiB(81'000)};
constexpr AcceleratorFacts kH200 = {.name = "h200", .peak_flops = 989e12, .memory_bytes = MiB(143'060)};
constexpr AcceleratorFacts kB200 = {.name = "b200", .peak_flops = 2250e12, .memory_bytes = MiB(182'630)};

}  // namespace

const AcceleratorFacts& FactsOf(config::Cluster_Accelerator accelerator) {
  switch (accelerator) {
    case config::Cluster::ACCELERATOR_CPU:
      return kCpu;
    case config::Cluster::ACCELERATOR_A100:
      return kA100;
    case config::Cluster::ACCELERATOR_H100:
      return kH100;
    case config::Cluster::ACCELERATOR_H200:
      return kH200;
    case config::Cluster::ACCELERATOR_B200:
      return kB200;
    default:
      LOG(FATAL) << "Accelerator " << static_cast<int>(accelerator) << " has no row in titan/plan/accelerators.cc";
  }
}

}  // namespace titan
