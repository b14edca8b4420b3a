// A file mapped into memory, for reading.

#ifndef TITAN_DATA_MAPPED_FILE_H_
#define TITAN_DATA_MAPPED_FILE_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace titan {

class MappedFile {
 public:
  // NotFound, or another error with the path and the system's reason.
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::string_view bytes() const { return bytes_; }

 private:
  MappedFile(std::string path, std::string_view bytes) : path_(std::move(path)), bytes_(bytes) {}

  const std::string path_;
  const std::string_view bytes_;
};

// Tells whether a file is the one that a state was made with: sha256 of its name (without folders), its size and its
// content; of more than 16 MiB only 256 evenly spaced blocks of 64 KiB are read, so that a large corpus starts at once.
std::string Fingerprint(const std::string& path, std::string_view bytes);

}  // namespace titan

#endif  // TITAN_DATA_MAPPED_FILE_H_
