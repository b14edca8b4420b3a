#include "launchers/local/rank_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "titan/base/file.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

// Two ends of a channel: what the child writes to `write_end`, the parent reads from `read_end`. -1: closed.
struct Channel {
  Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() {
    if (read_end >= 0) close(read_end);
    if (write_end >= 0) close(write_end);
  }

  int read_end = -1;
  int write_end = -1;
};

absl::Status OpenPipe(Channel& channel) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return SystemError(errno, "cannot open", "a pipe");
  channel.read_end = ends[0];
  channel.write_end = ends[1];
  return absl::OkStatus();
}

// A terminal that hands on every byte as it is.
absl::Status OpenTerminal(Channel& channel) {
  channel.read_end = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  char name[256];
  if (channel.read_end < 0 || grantpt(channel.read_end) != 0 || unlockpt(channel.read_end) != 0 ||
      ptsname_r(channel.read_end, name, sizeof(name)) != 0) {
    return SystemError(errno, "cannot open", "a terminal");
  }
  channel.write_end = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (channel.write_end < 0) return SystemError(errno, "cannot open", name);
  termios attributes{};
  if (tcgetattr(channel.write_end, &attributes) == 0) {
    cfmakeraw(&attributes);
    tcsetattr(channel.write_end, TCSANOW, &attributes);
  }
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) ioctl(channel.write_end, TIOCSWINSZ, &size);
  return absl::OkStatus();
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// Between fork and exec: nothing but system calls.
[[noreturn]] void BecomeChild(const RankProcessOptions& options, pid_t parent, const sigset_t& signal_mask,
                              int standard_output, int standard_error, char* const* arguments,
                              char* const* environment) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // it ended before the line above
  setpgid(0, 0);
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, STDIN_FILENO);
  if (nothing > STDERR_FILENO) close(nothing);
  dup2(standard_output, STDOUT_FILENO);
  dup2(standard_error, STDERR_FILENO);
  if (options.open_file >= 0) fcntl(options.open_file, F_SETFD, 0);
  // The parent's handlers end here, not only at exec.
  for (const int caught : {SIGCHLD, SIGTERM, SIGINT}) signal(caught, SIG_DFL);
  sigprocmask(SIG_SETMASK, &signal_mask, nullptr);
  execve(options.program.c_str(), arguments, environment);
  const char* const reason = strerror(errno);
  for (const char* text : {"cannot execute ", options.program.c_str(), ": ", reason, "\n"}) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) break;
  }
  _exit(1);
}

}  // namespace

absl::StatusOr<RankProcess> StartProcess(const RankProcessOptions& options) {
  Channel standard_output, standard_error;
  TITAN_RETURN_IF_ERROR(options.terminal ? OpenTerminal(standard_output) : OpenPipe(standard_output));
  TITAN_RETURN_IF_ERROR(OpenPipe(standard_error));
  for (const int end : {standard_output.read_end, standard_error.read_end}) fcntl(end, F_SETFL, O_NONBLOCK);
  const std::vector<char*> arguments = Pointers(options.arguments);
  const std::vector<char*> environment = Pointers(options.environment);
  const pid_t parent = getpid();
  // Until it has handlers of its own, a signal to the child must not run its parent's.
  sigset_t all_signals, signal_mask;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_SETMASK, &all_signals, &signal_mask);
  const pid_t pid = fork();
  if (pid != 0) pthread_sigmask(SIG_SETMASK, &signal_mask, nullptr);
  if (pid < 0) return SystemError(errno, "cannot start", options.program);
  if (pid == 0) {
    BecomeChild(options, parent, signal_mask, standard_output.write_end, standard_error.write_end, arguments.data(),
                environment.data());
  }
  RankProcess process{.pid = pid};
  std::swap(process.standard_output, standard_output.read_end);
  std::swap(process.standard_error, standard_error.read_end);
  return process;
}

}  // namespace titan
