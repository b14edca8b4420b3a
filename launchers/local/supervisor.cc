#include "launchers/local/supervisor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launchers/local/rank_output.h"
#include "launchers/local/rank_process.h"
#include "titan/base/file.h"
#include "titan/base/status_macros.h"
#include "titan/train/exit_code.h"

namespace titan {
namespace {

using Clock = std::chrono::steady_clock;

// "SIGKILL"
std::string SignalName(int signal) {
  const char* name = sigabbrev_np(signal);
  return name == nullptr ? absl::StrCat("signal ", signal) : absl::StrCat("SIG", name);
}

// How a process ended, as waitpid tells it.
class Ending {
 public:
  explicit Ending(int status) : status_(status) {}

  int signal() const { return WIFSIGNALED(status_) ? WTERMSIG(status_) : 0; }
  bool ok() const { return WIFEXITED(status_) && WEXITSTATUS(status_) == 0; }

  ExitCode code() const {
    if (WIFEXITED(status_)) return static_cast<ExitCode>(WEXITSTATUS(status_));
    for (const int own : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTRAP}) {
      if (signal() == own) return ExitCode::kFailed;
    }
    return ExitCode::kPeerLost;
  }

  // All ranks come to it together, so that nobody has to be told.
  bool is_common() const {
    return ok() || (signal() == 0 && (code() == ExitCode::kNonFinite || code() == ExitCode::kPreempted));
  }
  // It follows from another rank's ending.
  bool is_consequence() const { return signal() == 0 && code() == ExitCode::kPeerLost; }

  std::string Describe() const {
    if (signal() == SIGKILL) return "was killed by SIGKILL (by hand, by a scheduler, or for want of memory: see dmesg)";
    if (signal() != 0) return absl::StrCat("was killed by ", SignalName(signal()));
    const int number = WEXITSTATUS(status_);
    return absl::StrCat("ended with exit code ", number, " (", NameOf(code()), ")");
  }

 private:
  int status_;
};

struct Rank {
  RankOutput output;
  RankProcess process;
  std::optional<Ending> ending;
  bool by_us = false;  // it ended after the supervisor had told it to
};

// A port of this machine that nobody else can take any more.
struct Listener {
  Listener() = default;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() {
    if (socket >= 0) close(socket);
  }

  int socket = -1;
  int port = 0;
};

absl::Status Listen(Listener& listener) {
  listener.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (listener.socket < 0 || bind(listener.socket, generic, size) != 0 || listen(listener.socket, SOMAXCONN) != 0 ||
      getsockname(listener.socket, generic, &size) != 0) {
    return SystemError(errno, "cannot listen on", "127.0.0.1");
  }
  listener.port = ntohs(address.sin_port);
  return absl::OkStatus();
}

// This process's environment; the cores are shared out unless the user has said how.
std::vector<std::string> EnvironmentFor(int64_t num_ranks) {
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) environment.emplace_back(*variable);
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    cpu_set_t cores;
    const int64_t num_cores = sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
    environment.push_back(absl::StrCat("OMP_NUM_THREADS=", std::max<int64_t>(1, num_cores / num_ranks)));
  }
  return environment;
}

// Signals arrive through a pipe that their handler writes to, whichever thread runs it: libraries such as the CUDA
// driver start threads that block no signal, and would take them away from a signalfd.
int signal_pipe[2] = {-1, -1};

void ForwardSignal(int signal) {
  const int saved_errno = errno;
  const auto number = static_cast<unsigned char>(signal);
  // A full pipe holds signals that were not looked at yet, which say as much.
  [[maybe_unused]] const ssize_t written = write(signal_pipe[1], &number, 1);
  errno = saved_errno;
}

constexpr int kSignals[] = {SIGCHLD, SIGTERM, SIGINT};

class Supervisor {
 public:
  explicit Supervisor(const SupervisorOptions& options) : options_(options) {}
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;
  ~Supervisor();

  absl::Status Run();

 private:
  absl::Status CatchSignals();
  absl::Status Start();
  RankOutput::Show ShowOf(int64_t rank) const;
  // Waits for output, signals and deadlines, and does what they ask for.
  absl::Status Step();
  void TakeSignals();
  void Reap();
  void NoteEnding(int64_t rank, Ending ending);
  void Signal(int signal);
  void MeetDeadline();
  void Read(RankOutput& output, int stream, int& descriptor);
  bool AnyoneRuns() const;
  absl::Status Report() const;
  std::string Others(int64_t rank) const;

  const SupervisorOptions& options_;
  std::vector<std::pair<int, struct sigaction>> previous_actions_;  // of the signals that are caught now
  std::vector<Rank> ranks_;
  std::vector<int64_t> failures_;  // in the order in which they were noticed
  int stop_signal_ = 0;            // that was handed on
  bool killed_ = false;            // by the second one
  std::optional<Clock::time_point> deadline_;
  int deadline_signal_ = SIGTERM;  // what the ranks get then
};

Supervisor::~Supervisor() {
  Signal(SIGKILL);  // only where something failed before all had ended
  for (Rank& rank : ranks_) {
    if (!rank.ending) waitpid(rank.process.pid, nullptr, 0);
    if (rank.process.standard_output >= 0) close(rank.process.standard_output);
    if (rank.process.standard_error >= 0) close(rank.process.standard_error);
  }
  for (const auto& [signal, action] : previous_actions_) sigaction(signal, &action, nullptr);
  for (int& end : signal_pipe) {
    if (end >= 0) close(std::exchange(end, -1));
  }
}

absl::Status Supervisor::Run() {
  TITAN_RETURN_IF_ERROR(CatchSignals());
  TITAN_RETURN_IF_ERROR(Start());
  while (AnyoneRuns()) TITAN_RETURN_IF_ERROR(Step());
  return Report();
}

absl::Status Supervisor::CatchSignals() {
  if (pipe2(signal_pipe, O_NONBLOCK | O_CLOEXEC) != 0) return SystemError(errno, "cannot open", "a pipe");
  for (const int signal : kSignals) {
    struct sigaction forward = {}, previous = {};
    forward.sa_handler = ForwardSignal;
    forward.sa_flags = SA_RESTART;
    if (sigaction(signal, &forward, &previous) != 0) return SystemError(errno, "cannot catch", SignalName(signal));
    previous_actions_.emplace_back(signal, previous);
  }
  return absl::OkStatus();
}

RankOutput::Show Supervisor::ShowOf(int64_t rank) const {
  if (!options_.log_ranks) return RankOutput::Show::kLines;
  if (options_.log_ranks->count(rank) == 0) return RankOutput::Show::kErrors;
  return options_.log_ranks->size() == 1 ? RankOutput::Show::kAsItIs : RankOutput::Show::kLines;
}

absl::Status Supervisor::Start() {
  Listener listener;
  TITAN_RETURN_IF_ERROR(Listen(listener));
  RankProcessOptions common{
      .program = options_.program, .arguments = options_.arguments, .environment = EnvironmentFor(options_.num_ranks)};
  for (const std::string& argument : {std::string("--world_size"), absl::StrCat(options_.num_ranks),
                                      std::string("--rendezvous"), absl::StrCat("127.0.0.1:", listener.port)}) {
    common.arguments.push_back(argument);
  }
  for (int64_t rank = 0; rank < options_.num_ranks; ++rank) {
    const RankOutput::Show show = ShowOf(rank);
    TITAN_ASSIGN_OR_RETURN(RankOutput output,
                           RankOutput::Open(rank, absl::StrCat(options_.log_directory, "/rank-", rank, ".log"), show));
    RankProcessOptions own = common;
    for (const char* flag : {"--rank=", "--local_rank="}) own.arguments.push_back(absl::StrCat(flag, rank));
    if (rank == 0) {
      own.open_file = listener.socket;
      own.arguments.push_back(absl::StrCat("--listen_socket=", listener.socket));
    }
    own.terminal = show == RankOutput::Show::kAsItIs && isatty(STDOUT_FILENO);
    TITAN_ASSIGN_OR_RETURN(const RankProcess process, StartProcess(own));
    ranks_.push_back({.output = std::move(output), .process = process, .ending = std::nullopt});
  }
  return absl::OkStatus();
}

bool Supervisor::AnyoneRuns() const {
  return std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return !rank.ending; });
}

absl::Status Supervisor::Step() {
  std::vector<pollfd> files = {{.fd = signal_pipe[0], .events = POLLIN, .revents = 0}};
  for (const Rank& rank : ranks_) {  // poll skips those that are -1
    files.push_back({.fd = rank.process.standard_output, .events = POLLIN, .revents = 0});
    files.push_back({.fd = rank.process.standard_error, .events = POLLIN, .revents = 0});
  }
  int timeout = -1;
  if (deadline_) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - Clock::now()).count();
    timeout = static_cast<int>(std::max<int64_t>(0, left));
  }
  if (poll(files.data(), files.size(), timeout) < 0 && errno != EINTR) {
    return SystemError(errno, "cannot wait for", "the ranks");
  }
  for (size_t i = 0; i < ranks_.size(); ++i) {
    RankProcess& process = ranks_[i].process;
    if (files[1 + 2 * i].revents != 0) Read(ranks_[i].output, STDOUT_FILENO, process.standard_output);
    if (files[2 + 2 * i].revents != 0) Read(ranks_[i].output, STDERR_FILENO, process.standard_error);
  }
  if (files[0].revents != 0) TakeSignals();
  if (deadline_ && Clock::now() >= *deadline_) MeetDeadline();
  return absl::OkStatus();
}

// All that is there now. Closes the file at its end; a terminal without a process behind it has its end as an error.
void Supervisor::Read(RankOutput& output, int stream, int& descriptor) {
  char buffer[1 << 14];
  while (descriptor >= 0) {
    const ssize_t size = read(descriptor, buffer, sizeof(buffer));
    if (size > 0) {
      output.Take(stream, {buffer, static_cast<size_t>(size)});
    } else if (size < 0 && errno == EINTR) {
      continue;
    } else if (size < 0 && errno == EAGAIN) {
      return;
    } else {
      close(std::exchange(descriptor, -1));
    }
  }
}

void Supervisor::TakeSignals() {
  unsigned char signal = 0;
  while (read(signal_pipe[0], &signal, 1) == 1) {
    if (signal == SIGCHLD) {
      Reap();
    } else if (stop_signal_ == 0) {
      stop_signal_ = signal;
      Signal(signal);
    } else {
      killed_ = true;
      Signal(SIGKILL);
    }
  }
}

void Supervisor::Reap() {
  for (size_t i = 0; i < ranks_.size(); ++i) {
    int status = 0;
    if (!ranks_[i].ending && waitpid(ranks_[i].process.pid, &status, WNOHANG) > 0) {
      NoteEnding(static_cast<int64_t>(i), Ending(status));
    }
  }
}

void Supervisor::NoteEnding(int64_t number, Ending ending) {
  Rank& rank = ranks_[number];
  rank.ending = ending;
  Read(rank.output, STDOUT_FILENO, rank.process.standard_output);
  Read(rank.output, STDERR_FILENO, rank.process.standard_error);
  rank.output.Finish();
  rank.by_us = deadline_signal_ != SIGTERM;
  if (ending.ok()) return;
  failures_.push_back(number);
  if (rank.by_us || (deadline_ && ending.is_common())) return;
  const Clock::time_point latest = Clock::now() + (ending.is_common() ? options_.common_ending_grace : options_.grace);
  if (!deadline_ || latest < *deadline_) deadline_ = latest;
}

void Supervisor::Signal(int signal) {
  for (const Rank& rank : ranks_) {
    if (!rank.ending) kill(rank.process.pid, signal);
  }
}

void Supervisor::MeetDeadline() {
  Signal(deadline_signal_);
  deadline_.reset();
  if (std::exchange(deadline_signal_, SIGKILL) == SIGTERM) deadline_ = Clock::now() + options_.termination_grace;
}

// "  ranks 0, 1: ended with exit code 5 (a peer was lost)", and a line for each other way to end.
std::string Supervisor::Others(int64_t first) const {
  std::map<std::string, std::vector<int64_t>> groups;
  for (int64_t i = 0; i < options_.num_ranks; ++i) {
    if (i == first) continue;
    const Rank& rank = ranks_[i];
    const bool was_ended = rank.by_us && rank.ending->signal() != 0;
    groups[was_ended ? "did not end by themselves and were killed" : rank.ending->Describe()].push_back(i);
  }
  std::vector<std::string> lines;
  for (const auto& [how, ranks] : groups) {
    lines.push_back(absl::StrCat("  ", ranks.size() == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, ", "), ": ", how));
  }
  return absl::StrJoin(lines, "\n");
}

absl::Status Supervisor::Report() const {
  if (killed_) {
    return WithExitCode(absl::CancelledError("all ranks were killed, because a second signal asked for it"),
                        static_cast<ExitCode>(128 + stop_signal_));
  }
  if (failures_.empty()) return absl::OkStatus();
  const auto found = std::find_if(failures_.begin(), failures_.end(), [this](int64_t rank) {
    return !ranks_[rank].by_us && !ranks_[rank].ending->is_consequence();
  });
  const int64_t first = found == failures_.end() ? failures_.front() : *found;
  const Rank& rank = ranks_[first];
  const Ending& ending = *rank.ending;
  // Asked to stop before it could listen: nothing is lost.
  const bool stopped_early = stop_signal_ != 0 && ending.signal() == stop_signal_;
  const ExitCode code = stopped_early ? ExitCode::kPreempted : ending.code();
  if (code == ExitCode::kPreempted) {
    return WithExitCode(absl::CancelledError("all ranks have stopped, as a signal asked"), code);
  }
  std::string text =
      absl::StrCat("rank ", first, " of ", options_.num_ranks, " was the first to fail: it ", ending.Describe());
  if (!rank.output.last_lines().empty()) {
    absl::StrAppend(&text, "\nIts last lines (", rank.output.log(), "):\n  ",
                    absl::StrJoin(rank.output.last_lines(), "\n  "));
  } else {
    absl::StrAppend(&text, "\nIt has printed nothing (", rank.output.log(), ")");
  }
  if (options_.num_ranks > 1) absl::StrAppend(&text, "\nThe others:\n", Others(first));
  return WithExitCode(absl::AbortedError(text), code);
}

}  // namespace

absl::Status Supervise(const SupervisorOptions& options) {
  // Files 0, 1 and 2 must be taken, or a pipe could become one of them.
  int file = open("/dev/null", O_RDWR | O_CLOEXEC);
  while (file >= 0 && file <= STDERR_FILENO) file = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (file > STDERR_FILENO) close(file);
  return Supervisor(options).Run();
}

}  // namespace titan
