// What travels between the store that rank 0 serves and the processes of a run: frames on one TCP connection each.
//
//   uint32 size of the rest | uint8 type | uint64 id | uint32 size of the key | key | value      (all little-endian)
//
// A request has an id that its answer repeats. Frames that the server sends on its own have id 0.

#ifndef TITAN_PARALLEL_STORE_FRAME_H_
#define TITAN_PARALLEL_STORE_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

enum class FrameType : uint8_t {
  // A process to the server.
  kHello = 1,  // key: rank; value: magic and world size. Answered by kWelcome when all have come, or kRefused
  kMissing,    // who has not come? Answered by kAnswer: ranks, separated by commas
  kSet,        // key and value; no answer
  kGet,        // answered by kAnswer as soon as the key is there
  kDelete,     // no answer
  kGroup,      // key: name; value: its ranks. Answered by kAnswer: a number that no other group has, or kRefused
  kAsk,        // key: group. Answered by kAnswer: one line for each process, "RANK REPORT"
  kReport,     // id of the server's kReportPlease; value: how far this process has come
  kAbort,      // value: why this process ends
  kBye,        // this process is done
  // The server to a process.
  kWelcome,       // value: an address of the server's machine, if others have come from other machines
  kRefused,       // value: why
  kAnswer,        // value: what was asked for
  kReportPlease,  // key: group
  kFailure,       // value: which rank is lost, and why
  kAllLeft,       // every process has said goodbye
};

struct Frame {
  FrameType type = FrameType::kAnswer;
  uint64_t id = 0;
  std::string key;
  std::string value;
};

inline constexpr char kStoreMagic[] = "titan-store-1 ";

std::string Encode(const Frame& frame);

// Takes the first frame out of `bytes`; nothing if it is not complete yet. InvalidArgument if these are no frames.
absl::StatusOr<std::optional<Frame>> TakeFrame(std::string& bytes);

// Writes all of it to a blocking socket.
absl::Status WriteAll(int socket, std::string_view bytes);

// "127.0.0.1" or "::1": of this or of the other end of a connection; empty if there is none.
std::string LocalAddress(int socket);
std::string PeerAddress(int socket);
bool IsLoopback(std::string_view address);

// Small frames go at once, and a machine that vanished is noticed within half a minute.
void SetConnectionOptions(int socket);

}  // namespace titan

#endif  // TITAN_PARALLEL_STORE_FRAME_H_
