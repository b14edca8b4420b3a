#include "tools/bundle/tar.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "titan/base/status_macros.h"

namespace titan {
namespace {

constexpr int64_t kBlockBytes = 512;
constexpr int64_t kMaxFileBytes = (int64_t{1} << 33) - 1;  // 11 octal digits
constexpr size_t kReadBytes = 1 << 20;

// POSIX.1-1988, "Extended tar format". All fields are text; numbers are octal.
struct Header {
  char name[100];
  char mode[8];
  char uid[8];
  char gid[8];
  char size[12];
  char mtime[12];
  char checksum[8];
  char type;
  char linkname[100];
  char magic[6];
  char version[2];
  char uname[32];
  char gname[32];
  char devmajor[8];
  char devminor[8];
  char prefix[155];
  char unused[12];
};
static_assert(sizeof(Header) == kBlockBytes);

template <size_t kSize>
void SetOctal(char (&field)[kSize], int64_t value) {
  snprintf(field, kSize, "%0*llo", static_cast<int>(kSize - 1), static_cast<unsigned long long>(value));
}

// Splits a long name at a '/' into prefix and name.
absl::Status SetName(const std::string& path, Header& header) {
  if (path.size() <= sizeof(header.name)) {
    std::memcpy(header.name, path.data(), path.size());
    return absl::OkStatus();
  }
  const size_t slash = path.rfind('/', sizeof(header.prefix));
  if (slash == std::string::npos || path.size() - slash - 1 > sizeof(header.name)) {
    return absl::InvalidArgumentError(absl::StrCat("the name is too long for a tar archive: ", path));
  }
  std::memcpy(header.prefix, path.data(), slash);
  std::memcpy(header.name, path.data() + slash + 1, path.size() - slash - 1);
  return absl::OkStatus();
}

absl::StatusOr<Header> MakeHeader(const std::string& path, int64_t bytes, bool executable) {
  if (bytes > kMaxFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", bytes, " bytes; a tar archive holds up to 8 GiB"));
  }
  Header header = {};
  TITAN_RETURN_IF_ERROR(SetName(path, header));
  SetOctal(header.mode, executable ? 0755 : 0644);
  SetOctal(header.uid, 0);
  SetOctal(header.gid, 0);
  SetOctal(header.size, bytes);
  SetOctal(header.mtime, 0);
  header.type = '0';
  std::memcpy(header.magic, "ustar", 6);
  std::memcpy(header.version, "00", 2);
  // The sum is taken with the checksum field full of spaces.
  std::memset(header.checksum, ' ', sizeof(header.checksum));
  const auto* begin = reinterpret_cast<const unsigned char*>(&header);
  snprintf(header.checksum, sizeof(header.checksum), "%06o", std::accumulate(begin, begin + sizeof(header), 0u));
  return header;
}

}  // namespace

TarWriter::TarWriter(const std::string& path) : path_(path), stream_(path, std::ios::binary | std::ios::trunc) {}

void TarWriter::Write(std::string_view bytes) {
  stream_.write(bytes.data(), bytes.size());
  sha256_.Update(bytes);
}

void TarWriter::Pad(int64_t bytes) {
  if (const int64_t rest = bytes % kBlockBytes; rest != 0) Write(std::string(kBlockBytes - rest, '\0'));
}

absl::Status TarWriter::AddFile(const std::string& name, const std::string& source, bool executable) {
  std::error_code error;
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(source, error));
  if (error) return absl::NotFoundError(absl::StrCat("cannot read ", source, ": ", error.message()));
  TITAN_ASSIGN_OR_RETURN(const Header header, MakeHeader(name, bytes, executable));
  Write(std::string_view(reinterpret_cast<const char*>(&header), sizeof(header)));

  std::ifstream input(source, std::ios::binary);
  std::string buffer(kReadBytes, '\0');
  int64_t copied = 0;
  while (input.read(buffer.data(), buffer.size()) || input.gcount() > 0) {
    Write(std::string_view(buffer).substr(0, input.gcount()));
    copied += input.gcount();
  }
  if (copied != bytes) return absl::DataLossError(absl::StrCat("read ", copied, " of ", bytes, " bytes of ", source));
  Pad(bytes);
  return absl::OkStatus();
}

absl::StatusOr<std::string> TarWriter::Finish() {
  Write(std::string(2 * kBlockBytes, '\0'));
  stream_.close();
  if (!stream_) return absl::DataLossError(absl::StrCat("cannot write ", path_, ": is the disk full?"));
  return sha256_.FinishHex();
}

}  // namespace titan
