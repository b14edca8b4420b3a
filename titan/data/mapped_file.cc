#include "titan/data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "titan/base/sha256.h"

namespace titan {

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat status;
  if (fstat(descriptor, &status) != 0 || S_ISDIR(status.st_mode)) {
    close(descriptor);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a file"));
  }
  void* data = nullptr;
  const size_t size = status.st_size;
  if (size > 0) {
    data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    const int error = errno;
    if (data == MAP_FAILED) {
      close(descriptor);
      return absl::ErrnoToStatus(error, absl::StrCat("cannot map ", path));
    }
  }
  close(descriptor);
  return std::shared_ptr<const MappedFile>(new MappedFile(path, {static_cast<const char*>(data), size}));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

std::string Fingerprint(const std::string& path, std::string_view bytes) {
  constexpr size_t kWhole = 16 << 20;
  constexpr size_t kBlock = 64 << 10;
  constexpr size_t kBlocks = kWhole / kBlock;
  Sha256 hash;
  hash.Update(absl::StrCat(path.substr(path.rfind('/') + 1), "\n", bytes.size(), "\n"));
  if (bytes.size() <= kWhole) {
    hash.Update(bytes);
  } else {
    for (size_t i = 0; i < kBlocks; ++i) {
      hash.Update(bytes.substr((bytes.size() - kBlock) / (kBlocks - 1) * i, kBlock));
    }
    hash.Update(bytes.substr(bytes.size() - kBlock));
  }
  return hash.FinishHex();
}

}  // namespace titan
