// A file that only grows, for logs: every Append reaches the file (a reader sees it at once), Sync makes it durable.

#ifndef TITAN_METRICS_APPEND_FILE_H_
#define TITAN_METRICS_APPEND_FILE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

class AppendFile {
 public:
  // Creates the file if there is none.
  static absl::StatusOr<AppendFile> Open(std::string path);

  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&& other) = delete;
  ~AppendFile();

  // All of it or, after an error, nothing. A full disk is ResourceExhausted.
  absl::Status Append(std::string_view bytes);
  absl::Status Sync();

 private:
  AppendFile(std::string path, int descriptor);

  std::string path_;
  int descriptor_;  // -1: moved from
};

}  // namespace titan

#endif  // TITAN_METRICS_APPEND_FILE_H_
