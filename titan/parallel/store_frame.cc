#include "titan/parallel/store_frame.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace titan {
namespace {

constexpr size_t kHeader = 1 + 8 + 4;     // after the size
constexpr uint32_t kMaxFrame = 64 << 20;  // what is larger is no frame of ours
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are written as they lie in memory");

template <typename T>
void Append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
T Load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

std::string AddressOf(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text, sizeof(text));
  } else if (address.ss_family == AF_INET6) {
    const in6_addr& ip = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&ip)) {
      inet_ntop(AF_INET, &ip.s6_addr[12], text, sizeof(text));
    } else {
      inet_ntop(AF_INET6, &ip, text, sizeof(text));
    }
  }
  return text;
}

}  // namespace

std::string Encode(const Frame& frame) {
  std::string bytes;
  bytes.reserve(4 + kHeader + frame.key.size() + frame.value.size());
  Append(bytes, static_cast<uint32_t>(kHeader + frame.key.size() + frame.value.size()));
  Append(bytes, static_cast<uint8_t>(frame.type));
  Append(bytes, frame.id);
  Append(bytes, static_cast<uint32_t>(frame.key.size()));
  absl::StrAppend(&bytes, frame.key, frame.value);
  return bytes;
}

absl::StatusOr<std::optional<Frame>> TakeFrame(std::string& bytes) {
  if (bytes.size() < 4) return std::nullopt;
  const uint32_t size = Load<uint32_t>(bytes.data());
  if (size < kHeader || size > kMaxFrame) return absl::InvalidArgumentError("these bytes are not of a Titan run");
  if (bytes.size() < 4 + size_t{size}) return std::nullopt;
  const char* begin = bytes.data() + 4;
  const uint32_t key_size = Load<uint32_t>(begin + 9);
  if (key_size > size - kHeader) return absl::InvalidArgumentError("a frame's key is longer than the frame");
  Frame frame;
  frame.type = static_cast<FrameType>(begin[0]);
  frame.id = Load<uint64_t>(begin + 1);
  frame.key.assign(begin + kHeader, key_size);
  frame.value.assign(begin + kHeader + key_size, size - kHeader - key_size);
  bytes.erase(0, 4 + size_t{size});
  return frame;
}

absl::Status WriteAll(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (written < 0) {
      if (errno == EINTR) continue;
      return absl::UnavailableError(std::strerror(errno));
    }
    bytes.remove_prefix(written);
  }
  return absl::OkStatus();
}

std::string LocalAddress(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
  return AddressOf(address);
}

std::string PeerAddress(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
  return AddressOf(address);
}

bool IsLoopback(std::string_view address) { return absl::StartsWith(address, "127.") || address == "::1"; }

void SetConnectionOptions(int socket) {
  const auto set = [&](int level, int name, int value) { setsockopt(socket, level, name, &value, sizeof(value)); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
}

}  // namespace titan
