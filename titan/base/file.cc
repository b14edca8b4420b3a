#include "titan/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

// The largest piece of one write(2); Linux takes at most 2 GiB.
constexpr size_t kMaxWrite = size_t{1} << 30;

std::string DirectoryOf(const std::string& path) {
  const std::string directory = std::filesystem::path(path).parent_path().string();
  return directory.empty() ? "." : directory;
}

}  // namespace

absl::Status SystemError(int error_number, std::string_view what, const std::string& path) {
  const std::string message =
      absl::StrCat(what, " ", path, ": ", std::error_code(error_number, std::generic_category()).message());
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; free some space or choose another disk"));
    case EFBIG:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; raise the limit on file sizes (ulimit -f)"));
    default:
      return absl::ErrnoToStatus(error_number, absl::StrCat(what, " ", path));
  }
}

absl::StatusOr<FileWriter> FileWriter::Create(const std::string& path) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return SystemError(errno, "cannot create", path);
  return FileWriter(path, descriptor);
}

FileWriter::FileWriter(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status FileWriter::Append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor_, bytes.data(), std::min(bytes.size(), kMaxWrite));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError(errno, "cannot write", path_);
    bytes.remove_prefix(written);
  }
  return absl::OkStatus();
}

absl::Status FileWriter::Close() {
  const int descriptor = std::exchange(descriptor_, -1);
  const int sync_error = fsync(descriptor) == 0 ? 0 : errno;
  const int close_error = close(descriptor) == 0 ? 0 : errno;
  if (sync_error != 0) return SystemError(sync_error, "cannot write", path_);
  if (close_error != 0) return SystemError(close_error, "cannot write", path_);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return SystemError(errno, "cannot open", path);
  struct stat info;
  std::string content;
  if (fstat(descriptor, &info) == 0 && info.st_size > 0) content.reserve(info.st_size);
  // Until the end and not for st_size bytes: files in /proc and pipes have no size.
  char buffer[1 << 16];
  while (true) {
    const ssize_t got = read(descriptor, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      close(descriptor);
      return SystemError(error, "cannot read", path);
    }
    if (got == 0) break;
    content.append(buffer, got);
  }
  close(descriptor);
  return content;
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view content) {
  std::error_code error;
  if (const auto type = std::filesystem::status(path, error).type();
      type == std::filesystem::file_type::character || type == std::filesystem::file_type::fifo) {
    // A rename would put a file in the place of /dev/null or /dev/stdout.
    std::ofstream device(path, std::ios::binary);
    device << content << std::flush;
    return device ? absl::OkStatus() : SystemError(errno, "cannot write", path);
  }
  // The process id keeps two writers of one path apart: the last to rename wins, with a whole file.
  const std::string temporary = absl::StrCat(path, ".tmp.", getpid());
  absl::Status status = [&]() -> absl::Status {
    TITAN_ASSIGN_OR_RETURN(FileWriter file, FileWriter::Create(temporary));
    TITAN_RETURN_IF_ERROR(file.Append(content));
    TITAN_RETURN_IF_ERROR(file.Close());
    if (rename(temporary.c_str(), path.c_str()) != 0) return SystemError(errno, "cannot replace", path);
    return absl::OkStatus();
  }();
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  return SyncDirectory(DirectoryOf(path));
}

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return SystemError(error.value(), "cannot create directory", path);
  if (!std::filesystem::is_directory(path, error)) {
    return SystemError(ENOTDIR, "cannot create directory", path);
  }
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return SystemError(errno, "cannot open directory", path);
  const int error = fsync(descriptor) == 0 ? 0 : errno;
  close(descriptor);
  // Some network file systems cannot sync a directory; their names are durable without it.
  if (error != 0 && error != EINVAL) return SystemError(error, "cannot sync directory", path);
  return absl::OkStatus();
}

std::string UserPath(const std::string& path) {
  if (!path.empty() && path.front() == '/') return path;
  const char* working_directory = std::getenv("BUILD_WORKING_DIRECTORY");
  const std::filesystem::path base = working_directory != nullptr && *working_directory == '/'
                                         ? std::filesystem::path(working_directory)
                                         : std::filesystem::current_path();
  return path.empty() ? base.string() : (base / path).lexically_normal().string();
}

}  // namespace titan
