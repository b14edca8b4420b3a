// Writes a tar archive (POSIX ustar) that depends on names and contents alone: mtime 0, owner 0, fixed modes.
//
//   TarWriter tar("out.tar");
//   absl::Status status = tar.AddFile("bin/titan_trainer", "/build/titan_trainer", /*executable=*/true);
//   absl::StatusOr<std::string> sha256 = tar.Finish();

#ifndef TITAN_TOOLS_BUNDLE_TAR_H_
#define TITAN_TOOLS_BUNDLE_TAR_H_

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "titan/base/sha256.h"

namespace titan {

class TarWriter {
 public:
  explicit TarWriter(const std::string& path);

  // Appends the file `source` as `name`. InvalidArgument if ustar cannot hold the name (255 bytes, a '/' before the
  // last 100) or the size (8 GiB). Call in the order that the archive shall have.
  absl::Status AddFile(const std::string& name, const std::string& source, bool executable);

  // Ends the archive; returns its sha256.
  absl::StatusOr<std::string> Finish();

 private:
  void Write(std::string_view bytes);
  void Pad(int64_t bytes);

  std::string path_;
  std::ofstream stream_;
  Sha256 sha256_;
};

}  // namespace titan

#endif  // TITAN_TOOLS_BUNDLE_TAR_H_
