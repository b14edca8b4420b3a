// Times each collective over sizes, and prints bandwidths by the formulas of NVIDIA's nccl-tests (docs/PERFORMANCE.md
// there), so that they can be laid beside that program's and beside what the hardware gives.

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <arpa/inet.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <numeric>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/parallel/communicator.h"

namespace titan {
namespace {

constexpr char kHelp[] = R"(communicator_benchmark [flags]: time and bandwidth of each collective, by size

  --world_size N          processes (2)
  --device cpu|cuda       Gloo or NCCL (cpu)
  --min_bytes N, --max_bytes N   sizes, each four times the one before (4096, 67108864)
  --rank R, --rendezvous HOST:PORT
                          this is one of the processes, and rank 0 listens there. Without --rank all of them are started
                          on this machine
  --local_rank R          index of its GPU (the rank)

Bytes are what nccl-tests calls size: the whole tensor of an all-reduce, the gathered one of an all-gather, the input of a
reduce-scatter or all-to-all, the message of a broadcast or ring exchange. algbw = bytes / time; busbw = algbw times the
share that has to travel, which does not depend on the number of ranks if the hardware is used well.
)";

struct Arguments {
  TransportOptions transport;
  int64_t rank = -1;
  int64_t local_rank = -1;
  bool cuda = false;
  int64_t min_bytes = 4 << 10;
  int64_t max_bytes = 64 << 20;
};

absl::StatusOr<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  arguments.transport.world_size = 2;
  std::string rendezvous;
  FlagParser flags;
  flags.Number("world_size", "a number of processes", 2, &arguments.transport.world_size);
  flags.Number("rank", "a rank", 0, &arguments.rank);
  flags.Number("local_rank", "the index of a GPU", 0, &arguments.local_rank);
  flags.Number("min_bytes", "a number of bytes", 4, &arguments.min_bytes);
  flags.Number("max_bytes", "a number of bytes", 4, &arguments.max_bytes);
  flags.Text("rendezvous", &rendezvous);
  flags.Choice<bool>("device", {{"cpu", false}, {"cuda", true}}, &arguments.cuda);
  TITAN_RETURN_IF_ERROR(flags.Parse(words));
  if (arguments.rank < 0) return arguments;
  const size_t colon = rendezvous.rfind(':');
  if (colon == std::string::npos || !absl::SimpleAtoi(rendezvous.substr(colon + 1), &arguments.transport.port)) {
    return absl::InvalidArgumentError("--rank needs --rendezvous=HOST:PORT");
  }
  arguments.transport.host = rendezvous.substr(0, colon);
  return arguments;
}

// One row of the table: `bytes` as nccl-tests counts them, and the share of them that travels.
struct Case {
  const char* name;
  std::function<double(int64_t n)> bus_factor;
  std::function<std::function<Work()>(Communicator& group, int64_t elements, at::TensorOptions options)> prepare;
};

double Share(int64_t n) { return static_cast<double>(n - 1) / static_cast<double>(n); }

// `elements` are a multiple of the number of ranks.
std::vector<Case> Cases() {
  return {
      {"all_reduce", [](int64_t n) { return 2 * Share(n); },
       [](Communicator& group, int64_t elements, at::TensorOptions options) {
         const at::Tensor tensor = at::full({elements}, 0, options);
         return [&group, tensor] { return group.AllReduce(tensor); };
       }},
      {"all_gather", Share,
       [](Communicator& group, int64_t elements, at::TensorOptions options) {
         const at::Tensor output = at::full({group.size(), elements / group.size()}, 0, options);
         return [&group, output] { return group.AllGather(output, output[group.rank()]); };
       }},
      {"reduce_scatter", Share,
       [](Communicator& group, int64_t elements, at::TensorOptions options) {
         const at::Tensor input = at::full({elements}, 0, options);
         const at::Tensor output = at::full({elements / group.size()}, 0, options);
         return [&group, input, output] { return group.ReduceScatter(output, input); };
       }},
      {"all_to_all", Share,
       [](Communicator& group, int64_t elements, at::TensorOptions options) {
         const at::Tensor input = at::full({elements}, 0, options), output = at::full({elements}, 0, options);
         return [&group, input, output] { return group.AllToAll(output, input); };
       }},
      {"broadcast", [](int64_t) { return 1.0; },
       [](Communicator& group, int64_t elements, at::TensorOptions options) {
         const at::Tensor tensor = at::full({elements}, 0, options);
         return [&group, tensor] { return group.Broadcast(tensor, 0); };
       }},
      {"ring_exchange", [](int64_t) { return 1.0; },
       [](Communicator& group, int64_t elements, at::TensorOptions options) {
         const at::Tensor sent = at::full({elements}, 0, options), received = at::full({elements}, 0, options);
         const int64_t n = group.size(), next = (group.rank() + 1) % n, last = (group.rank() + n - 1) % n;
         return [&group, sent, received, next, last] { return group.Exchange({{sent, next}}, {{received, last}}); };
       }},
  };
}

// Seconds per operation: the slowest rank's mean.
double Measure(Communicator& group, int64_t bytes, at::Device device, const std::function<Work()>& start) {
  const auto synchronize = [&] {
    if (device.is_cuda()) c10::impl::VirtualGuardImpl(c10::kCUDA).synchronizeDevice(device.index());
  };
  const int64_t repetitions = std::clamp<int64_t>((256 << 20) / bytes, 5, 200);
  for (int64_t i = 0; i < std::max<int64_t>(2, repetitions / 10); ++i) start().Wait();
  synchronize();
  group.Barrier();
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < repetitions; ++i) start().Wait();
  synchronize();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  const at::Tensor slowest =
      at::full({1}, elapsed.count() / static_cast<double>(repetitions), at::TensorOptions(device).dtype(at::kDouble));
  group.AllReduce(slowest, ReduceOp::kMax).Wait();
  return slowest.item<double>();
}

absl::Status RunRank(Arguments arguments) {
  if (arguments.cuda) {
    const int64_t index = arguments.local_rank < 0 ? arguments.transport.rank : arguments.local_rank;
    arguments.transport.device = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
    c10::impl::VirtualGuardImpl(c10::kCUDA).setDevice(arguments.transport.device);
  } else {
    at::set_num_threads(1);
  }
  TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Transport> transport, ConnectTransport(arguments.transport));
  std::vector<int64_t> ranks(transport->world_size());
  std::iota(ranks.begin(), ranks.end(), 0);
  TITAN_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, transport->NewGroup("world", ranks));
  const bool prints = transport->rank() == 0;
  if (prints) {
    std::printf(
        "%ld ranks, %s\n\n| operation | bytes | time (us) | algbw (GB/s) | busbw (GB/s) |\n|---|---|---|---|---|\n",
        static_cast<long>(group->size()), arguments.cuda ? "NCCL" : "Gloo");
  }
  const auto options = at::TensorOptions(arguments.transport.device).dtype(at::kFloat);
  for (const Case& each : Cases()) {
    for (int64_t size = arguments.min_bytes; size <= arguments.max_bytes; size *= 4) {
      const int64_t elements = std::max<int64_t>(size / 4 / group->size(), 1) * group->size();
      const double seconds = Measure(*group, size, arguments.transport.device, each.prepare(*group, elements, options));
      const double bandwidth = static_cast<double>(elements * 4) / seconds / 1e9;
      if (!prints) continue;
      std::printf("| %s | %ld | %.1f | %.3f | %.3f |\n", each.name, static_cast<long>(elements * 4), seconds * 1e6,
                  bandwidth, bandwidth * each.bus_factor(group->size()));
      std::fflush(stdout);
    }
  }
  return absl::OkStatus();
}

int Report(const absl::Status& status, int exit_code) {
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return exit_code;
}

int RunAndReport(const Arguments& arguments) {
  try {
    const absl::Status status = RunRank(arguments);
    return status.ok() ? 0 : Report(status, 1);
  } catch (const std::exception& error) {
    return Report(absl::UnavailableError(error.what()), 1);
  }
}

// All ranks on this machine; the port is the kernel's choice.
int RunAllHere(Arguments arguments) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener, plain, size) != 0 || listen(listener, 64) != 0 || getsockname(listener, plain, &size) != 0) {
    return Report(absl::UnavailableError("no port is free"), 1);
  }
  arguments.transport.port = ntohs(address.sin_port);
  for (int64_t rank = 0; rank < arguments.transport.world_size; ++rank) {
    if (fork() != 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    arguments.transport.rank = rank;
    if (rank == 0) arguments.transport.listen_socket = listener;
    const int exit_code = RunAndReport(arguments);
    std::fflush(nullptr);
    _exit(exit_code);
  }
  close(listener);
  int status = 0, exit_code = 0;
  while (wait(&status) > 0) {
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) exit_code = 1;
  }
  return exit_code;
}

int Main(const std::vector<std::string>& words) {
  if (WantsHelp(words)) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  absl::StatusOr<Arguments> arguments = Parse(words);
  if (!arguments.ok()) return Report(arguments.status(), 2);
  if (arguments->rank < 0) return RunAllHere(*arguments);
  arguments->transport.rank = arguments->rank;
  return RunAndReport(*arguments);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) { return titan::Main(std::vector<std::string>(argv + 1, argv + argc)); }
