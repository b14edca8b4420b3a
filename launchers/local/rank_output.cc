#include "launchers/local/rank_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "titan/base/file.h"

namespace titan {
namespace {

constexpr size_t kLastLines = 12;
constexpr size_t kLongestLine = 1 << 16;  // a longer one is cut in two

// False if the system takes no more: a full disk, a closed terminal. A run does not end because of that.
bool WriteAll(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

std::string PlainLine(std::string_view line) {
  while (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  if (const size_t overwritten = line.rfind('\r'); overwritten != std::string_view::npos) {
    line.remove_prefix(overwritten + 1);
  }
  std::string plain;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\x1b') {
      plain.push_back(line[i]);
    } else if (i + 1 < line.size() && line[i + 1] == '[') {
      // ECMA-48: ESC [, parameters, and a final byte between @ and ~.
      for (i += 2; i < line.size() && (line[i] < '@' || line[i] > '~');) ++i;
    }
  }
  return plain;
}

absl::StatusOr<RankOutput> RankOutput::Open(int64_t rank, const std::string& log, Show show) {
  const int descriptor = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor < 0) return SystemError(errno, "cannot write", log);
  return RankOutput(rank, log, descriptor, show);
}

RankOutput::RankOutput(int64_t rank, std::string log, int log_descriptor, Show show)
    : rank_(rank), log_(std::move(log)), log_descriptor_(log_descriptor), show_(show) {}

RankOutput::RankOutput(RankOutput&& other) noexcept
    : rank_(other.rank_),
      log_(std::move(other.log_)),
      log_descriptor_(std::exchange(other.log_descriptor_, -1)),
      show_(other.show_),
      unfinished_(std::move(other.unfinished_)),
      last_lines_(std::move(other.last_lines_)) {}

RankOutput::~RankOutput() {
  if (log_descriptor_ >= 0) close(log_descriptor_);
}

void RankOutput::Take(int stream, std::string_view bytes) {
  CHECK(stream == STDOUT_FILENO || stream == STDERR_FILENO) << stream;
  if (show_ == Show::kAsItIs) WriteAll(stream, bytes);
  std::string& unfinished = unfinished_[stream == STDERR_FILENO];
  unfinished.append(bytes);
  size_t begin = 0;
  for (size_t end; (end = unfinished.find('\n', begin)) != std::string::npos; begin = end + 1) {
    TakeLine(stream, unfinished.substr(begin, end - begin));
  }
  unfinished.erase(0, begin);
  if (unfinished.size() > kLongestLine) TakeLine(stream, std::exchange(unfinished, ""));
}

void RankOutput::Finish() {
  for (const int stream : {STDOUT_FILENO, STDERR_FILENO}) {
    std::string& unfinished = unfinished_[stream == STDERR_FILENO];
    if (!unfinished.empty()) TakeLine(stream, std::exchange(unfinished, ""));
  }
}

void RankOutput::TakeLine(int stream, std::string line) {
  if (show_ == Show::kLines || (show_ == Show::kErrors && stream == STDERR_FILENO)) {
    WriteAll(stream, absl::StrCat("[rank ", rank_, "] ", line, "\n"));
  }
  line = PlainLine(line);
  last_lines_.push_back(line);
  if (last_lines_.size() > kLastLines) last_lines_.pop_front();
  if (log_descriptor_ >= 0 && !WriteAll(log_descriptor_, absl::StrCat(line, "\n"))) {
    const absl::Status error = SystemError(errno, "cannot write", log_);
    LOG(WARNING) << error.message() << "; this log ends here";
    close(std::exchange(log_descriptor_, -1));
  }
}

}  // namespace titan
