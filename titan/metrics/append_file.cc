#include "titan/metrics/append_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "titan/base/file.h"

namespace titan {

AppendFile::AppendFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::StatusOr<AppendFile> AppendFile::Open(std::string path) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return SystemError(errno, "cannot open", path);
  return AppendFile(std::move(path), descriptor);
}

absl::Status AppendFile::Append(std::string_view bytes) {
  off_t done = 0;
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const absl::Status status = SystemError(errno, "cannot write", path_);
      // Half a line would spoil the next one.
      struct stat info;
      if (done == 0 || fstat(descriptor_, &info) != 0 || ftruncate(descriptor_, info.st_size - done) == 0)
        return status;
      return SystemError(errno, "cannot shorten", path_);
    }
    done += written;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status AppendFile::Sync() {
  return fsync(descriptor_) == 0 ? absl::OkStatus() : SystemError(errno, "cannot write to disk", path_);
}

}  // namespace titan
