// Stands in for titan_trainer in tests of the supervisor. With --nproc it supervises itself; as a rank it prints who
// it is, leaves its process id in DIR/pid-R, and does what DIR/do-R says: a line of words
//
//   exit N | signal N | wait | lines N | stop N (exits with N at SIGTERM or SIGINT) | deaf (ignores SIGTERM) | pause MS
//
//   fake_trainer --out DIR --nproc 4 [--log_ranks 0,1|all]

#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launchers/local/supervisor.h"
#include "titan/base/file.h"
#include "titan/base/flags.h"
#include "titan/base/status_macros.h"
#include "titan/train/exit_code.h"

namespace titan {
namespace {

struct FakeFlags {
  std::string out, rendezvous, log_ranks = "0";
  int64_t nproc = 0, rank = -1, world_size = 0, local_rank = 0, listen_socket = -1;
};

volatile std::sig_atomic_t stop_code = 0;

void Stop(int) { _exit(stop_code); }

void Act(const std::string& out, int64_t rank) {
  std::ifstream script(absl::StrCat(out, "/do-", rank));
  std::string word;
  int number = 0;
  while (script >> word) {
    if (word == "wait") {
      for (;;) pause();
    } else if (word == "deaf") {
      signal(SIGTERM, SIG_IGN);
    } else if (script >> number; word == "exit") {
      std::cout << std::flush;
      _exit(number);
    } else if (word == "signal") {
      std::cout << std::flush;
      raise(number);
    } else if (word == "stop") {
      stop_code = number;
      signal(SIGTERM, Stop);
      signal(SIGINT, Stop);
    } else if (word == "lines") {
      for (int i = 0; i < number; ++i) std::cout << "line " << i << "\n";
    } else if (word == "pause") {
      std::this_thread::sleep_for(std::chrono::milliseconds(number));
    }
    // Tells the test that it has come so far.
    std::ofstream(absl::StrCat(out, "/did-", rank, "-", word));
  }
}

absl::Status BeRank(const FakeFlags& flags) {
  int listens = 0;
  socklen_t size = sizeof(listens);
  if (flags.listen_socket >= 0) {
    getsockopt(static_cast<int>(flags.listen_socket), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
  }
  TITAN_RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(flags.out, "/pid-", flags.rank), absl::StrCat(getpid())));
  std::cout << (isatty(STDOUT_FILENO) ? "\x1b[1mterminal\x1b[0m" : "no terminal") << "\n"
            << "rank " << flags.rank << " of " << flags.world_size << ", local rank " << flags.local_rank << ", "
            << (listens ? "listening" : "calling") << ", "
            << (flags.rendezvous.rfind("127.0.0.1:", 0) == 0 ? "at loopback" : flags.rendezvous) << ", "
            << std::getenv("OMP_NUM_THREADS") << " threads" << std::endl;
  std::cerr << absl::StrCat("warning of rank ", flags.rank, "\n");  // in one piece, which no other rank's can part
  Act(flags.out, flags.rank);
  return absl::OkStatus();
}

absl::Status Main(const std::vector<std::string>& command) {
  FakeFlags flags;
  FlagParser parser;
  parser.Path("out", &flags.out);
  parser.Text("rendezvous", &flags.rendezvous);
  parser.Text("log_ranks", &flags.log_ranks);
  parser.Number("nproc", "processes", 1, &flags.nproc);
  parser.Number("rank", "a rank", 0, &flags.rank);
  parser.Number("world_size", "ranks", 1, &flags.world_size);
  parser.Number("local_rank", "a rank", 0, &flags.local_rank);
  parser.Number("listen_socket", "a file", 0, &flags.listen_socket);
  TITAN_RETURN_IF_ERROR(parser.Parse({command.begin() + 1, command.end()}));
  if (flags.rank >= 0) return BeRank(flags);
  // As the CUDA driver does: it blocks no signal, and the kernel may choose it for one.
  std::thread([] {
    while (true) pause();
  }).detach();
  SupervisorOptions options{
      .program = std::filesystem::canonical("/proc/self/exe"),
      .arguments = command,
      .num_ranks = flags.nproc,
      .log_directory = flags.out,
      .grace = std::chrono::milliseconds(1500),
      .common_ending_grace = std::chrono::milliseconds(1500),
      .termination_grace = std::chrono::milliseconds(500),
  };
  if (flags.log_ranks == "all") {
    options.log_ranks.reset();
  } else {
    options.log_ranks->clear();
    for (const auto rank : absl::StrSplit(flags.log_ranks, ','))
      options.log_ranks->insert(std::stoi(std::string(rank)));
  }
  return Supervise(options);
}

}  // namespace
}  // namespace titan

int main(int argc, char** argv) {
  const absl::Status status = titan::Main({argv, argv + argc});
  if (!status.ok()) std::cerr << "supervisor: " << status.message() << std::endl;
  return static_cast<int>(titan::ExitCodeOf(status));
}
