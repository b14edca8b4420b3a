#include "titan/parallel/multi_process_test.h"

#include <ATen/Parallel.h>
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"

namespace titan {
namespace {

// A socket that listens on a port of the kernel's choice.
std::pair<int, int64_t> Listen() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  CHECK_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  CHECK_EQ(listen(listener, 64), 0);
  CHECK_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  return {listener, ntohs(address.sin_port)};
}

[[noreturn]] void RunChild(const TransportOptions& options, const std::string& error_file,
                           const std::function<void(const TransportOptions&)>& body) {
  int exit_code = 0;
  try {
    const testing::ScopedTrace trace(__FILE__, __LINE__, absl::StrCat("rank ", options.rank));
    body(options);
    if (testing::Test::HasFailure()) exit_code = 1;
  } catch (const CommunicationError& error) {
    std::ofstream(error_file) << error.what();
    exit_code = 5;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", static_cast<int>(options.rank), error.what());
    exit_code = 1;
  }
  std::fflush(nullptr);
  _exit(exit_code);
}

}  // namespace

RankProcesses::RankProcesses(int64_t world_size, const std::function<void(const TransportOptions&)>& body) {
  std::string pattern = absl::StrCat(testing::TempDir(), "/ranks-XXXXXX");
  CHECK(mkdtemp(pattern.data()) != nullptr);
  directory_ = pattern;
  const auto [listener, port] = Listen();
  std::fflush(nullptr);
  for (int64_t rank = 0; rank < world_size; ++rank) {
    Child child;
    child.error_file = absl::StrCat(directory_, "/", rank);
    child.pid = fork();
    CHECK_GE(child.pid, 0);
    if (child.pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      at::set_num_threads(1);  // the ranks share the machine
      TransportOptions options;
      options.rank = rank;
      options.world_size = world_size;
      options.port = port;
      if (rank == 0) {
        options.listen_socket = listener;
      } else {
        close(listener);
      }
      RunChild(options, child.error_file, body);
    }
    children_.push_back(std::move(child));
  }
  close(listener);
}

RankProcesses::~RankProcesses() {
  for (int64_t rank = 0; rank < static_cast<int64_t>(children_.size()); ++rank) {
    if (!children_[rank].waited) kill(children_[rank].pid, SIGKILL);
    Wait(rank);
  }
  std::filesystem::remove_all(directory_);
}

int RankProcesses::Wait(int64_t rank) {
  Child& child = children_[rank];
  if (std::exchange(child.waited, true)) return child.exit_code;
  int status = 0;
  CHECK_EQ(waitpid(child.pid, &status, 0), child.pid);
  child.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return child.exit_code;
}

std::string RankProcesses::Error(int64_t rank) const {
  std::ifstream in(children_[rank].error_file);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

std::string RunRanks(int64_t world_size, const std::function<void(Transport&)>& body) {
  RankProcesses processes(world_size, [&](const TransportOptions& options) {
    absl::StatusOr<std::unique_ptr<Transport>> transport = ConnectTransport(options);
    if (!transport.ok()) throw CommunicationError(std::string(transport.status().message()));
    body(**transport);
  });
  std::string failures;
  for (int64_t rank = 0; rank < world_size; ++rank) {
    const int exit_code = processes.Wait(rank);
    if (exit_code != 0)
      absl::StrAppend(&failures, "rank ", rank, ": exit code ", exit_code, " ", processes.Error(rank), "\n");
  }
  return failures;
}

}  // namespace titan
