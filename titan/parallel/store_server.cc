#include "titan/parallel/store_server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "titan/parallel/store_frame.h"

namespace titan {
namespace {

using Clock = std::chrono::steady_clock;

// How long the processes have to say how far they are. Who does not is stopped or hangs.
constexpr std::chrono::milliseconds kReportTime{1500};

struct Connection {
  int socket = -1;
  int64_t rank = -1;  // until it has said hello
  uint64_t hello_id = 0;
  bool left = false;  // said goodbye
  std::string in, out;
  bool closed = false;
};

// One process wants to know how far the others are.
struct Question {
  int64_t asker = 0;
  uint64_t asker_id = 0;
  Clock::time_point deadline;
  std::map<int64_t, std::string> reports;  // by rank
};

}  // namespace

class StoreServer::Loop {
 public:
  Loop(int listener, int64_t world_size)
      : listener_(listener), wake_(eventfd(0, EFD_CLOEXEC)), world_size_(world_size), thread_([this] { Run(); }) {}

  ~Loop() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake_, &one, sizeof(one));
    thread_.join();
    for (auto& connection : connections_) close(connection->socket);
    close(listener_);
    close(wake_);
  }

 private:
  void Run();
  int PollTimeout() const;
  void Accept();
  void Read(Connection& connection);
  void Write(Connection& connection);
  void Handle(Connection& connection, Frame frame);
  void Hello(Connection& connection, const Frame& frame);
  void Group(Connection& connection, const Frame& frame);
  void Ask(Connection& connection, const Frame& frame);
  void AnswerQuestions();
  void Closed(Connection& connection);
  void Fail(int64_t from, const std::string& text);
  void TellIfAllLeft();

  Connection* Find(int64_t rank) {
    for (auto& connection : connections_) {
      if (connection->rank == rank && !connection->closed) return connection.get();
    }
    return nullptr;
  }
  std::vector<int64_t> Missing() const {
    std::vector<int64_t> missing;
    for (int64_t rank = 0; rank < world_size_; ++rank) {
      if (!came_.contains(rank)) missing.push_back(rank);
    }
    return missing;
  }
  void Send(Connection& connection, const Frame& frame) {
    connection.out += Encode(frame);
    Write(connection);
  }
  void Answer(Connection& connection, uint64_t id, std::string value) {
    Send(connection, {FrameType::kAnswer, id, "", std::move(value)});
  }
  void Refuse(Connection& connection, uint64_t id, std::string why) {
    Send(connection, {FrameType::kRefused, id, "", std::move(why)});
  }

  const int listener_;
  const int wake_;
  const int64_t world_size_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::set<int64_t> came_;  // ranks
  std::set<int64_t> left_;
  std::string public_address_;  // of this machine, as somebody from another one has used it
  bool failed_ = false;
  std::map<std::string, std::string> values_;
  std::map<std::string, std::vector<std::pair<int64_t, uint64_t>>> waiting_;  // by key: rank and request
  std::map<std::string, std::pair<int64_t, std::string>> groups_;             // by name: number and ranks
  std::map<uint64_t, Question> questions_;
  uint64_t last_question_ = 0;
  std::thread thread_;
};

void StoreServer::Loop::Run() {
  while (true) {
    std::vector<pollfd> polled = {{wake_, POLLIN, 0}, {listener_, POLLIN, 0}};
    for (const auto& connection : connections_) {
      polled.push_back({connection->socket, static_cast<short>(POLLIN | (connection->out.empty() ? 0 : POLLOUT)), 0});
    }
    if (poll(polled.data(), polled.size(), PollTimeout()) < 0 && errno != EINTR) return;
    // Rank 0 may have said why it ends just before it ended.
    const bool is_last = polled[0].revents != 0;
    // Handlers may close connections but never remove them, so that the two lists stay in step.
    const size_t count = connections_.size();
    for (size_t i = 0; i < count; ++i) {
      Connection& connection = *connections_[i];
      if (!connection.closed && (polled[2 + i].revents & POLLOUT) != 0) Write(connection);
      if (!connection.closed && (polled[2 + i].revents & ~POLLOUT) != 0) Read(connection);
    }
    if (is_last) return;
    if (polled[1].revents != 0) Accept();
    AnswerQuestions();
    std::erase_if(connections_, [](const std::unique_ptr<Connection>& connection) {
      if (connection->closed) close(connection->socket);
      return connection->closed;
    });
  }
}

int StoreServer::Loop::PollTimeout() const {
  if (questions_.empty()) return -1;
  Clock::time_point first = Clock::time_point::max();
  for (const auto& [id, question] : questions_) first = std::min(first, question.deadline);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(first - Clock::now());
  return static_cast<int>(std::max<int64_t>(0, left.count()));
}

void StoreServer::Loop::Accept() {
  const int socket = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (socket < 0) return;
  SetConnectionOptions(socket);
  const std::string local = LocalAddress(socket);
  if (!local.empty() && !IsLoopback(local)) public_address_ = local;
  connections_.push_back(std::make_unique<Connection>());
  connections_.back()->socket = socket;
}

void StoreServer::Loop::Read(Connection& connection) {
  char bytes[65536];
  const ssize_t got = recv(connection.socket, bytes, sizeof(bytes), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return Closed(connection);
  connection.in.append(bytes, got);
  while (!connection.closed) {
    absl::StatusOr<std::optional<Frame>> frame = TakeFrame(connection.in);
    if (!frame.ok()) return Closed(connection);
    if (!frame->has_value()) return;
    Handle(connection, *std::move(*frame));
  }
}

void StoreServer::Loop::Write(Connection& connection) {
  while (!connection.closed && !connection.out.empty()) {
    const ssize_t written = send(connection.socket, connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return;  // full, or broken: then reading will say so
    connection.out.erase(0, written);
  }
}

void StoreServer::Loop::Handle(Connection& connection, Frame frame) {
  if (connection.rank < 0 && frame.type != FrameType::kHello) return Closed(connection);
  switch (frame.type) {
    case FrameType::kHello:
      return Hello(connection, frame);
    case FrameType::kMissing:
      return Answer(connection, frame.id, absl::StrJoin(Missing(), ", "));
    case FrameType::kSet: {
      const std::string& value = values_[frame.key] = std::move(frame.value);
      for (const auto& [rank, id] : waiting_[frame.key]) {
        if (Connection* waiting = Find(rank)) Answer(*waiting, id, value);
      }
      waiting_.erase(frame.key);
      return;
    }
    case FrameType::kGet:
      if (const auto found = values_.find(frame.key); found != values_.end()) {
        return Answer(connection, frame.id, found->second);
      }
      waiting_[frame.key].emplace_back(connection.rank, frame.id);
      return;
    case FrameType::kDelete:
      values_.erase(frame.key);
      return;
    case FrameType::kGroup:
      return Group(connection, frame);
    case FrameType::kAsk:
      return Ask(connection, frame);
    case FrameType::kReport:
      if (const auto found = questions_.find(frame.id); found != questions_.end()) {
        found->second.reports[connection.rank] = std::move(frame.value);
      }
      return;
    case FrameType::kAbort:
      return Fail(connection.rank, frame.value);
    case FrameType::kBye:
      connection.left = true;
      left_.insert(connection.rank);
      return TellIfAllLeft();
    default:
      return Closed(connection);
  }
}

void StoreServer::Loop::Hello(Connection& connection, const Frame& frame) {
  int64_t rank = -1, world_size = -1;
  std::string_view value = frame.value;
  if (!absl::ConsumePrefix(&value, kStoreMagic) || !absl::SimpleAtoi(value, &world_size) ||
      !absl::SimpleAtoi(frame.key, &rank)) {
    return Closed(connection);
  }
  if (world_size != world_size_) {
    return Refuse(connection, frame.id,
                  absl::StrCat("rank 0 was started for a world of ", world_size_, " processes, rank ", rank, " for ",
                               world_size));
  }
  if (rank < 0 || rank >= world_size_) {
    return Refuse(connection, frame.id, absl::StrCat("there is no rank ", rank, " in a world of ", world_size_));
  }
  if (came_.contains(rank)) {
    return Refuse(connection, frame.id,
                  absl::StrCat("rank ", rank, " has come already; were two processes started with the same rank?"));
  }
  came_.insert(rank);
  connection.rank = rank;
  connection.hello_id = frame.id;
  if (static_cast<int64_t>(came_.size()) < world_size_ || failed_) return;
  for (auto& each : connections_) {
    if (each->rank >= 0 && !each->closed) {
      Send(*each, {FrameType::kWelcome, each->hello_id, "", public_address_});
    }
  }
}

void StoreServer::Loop::Group(Connection& connection, const Frame& frame) {
  const auto number = static_cast<int64_t>(groups_.size()) + 1;
  const auto [group, is_new] = groups_.try_emplace(frame.key, number, frame.value);
  const auto& [known_number, known_ranks] = group->second;
  if (known_ranks != frame.value) {
    return Refuse(connection, frame.id,
                  absl::StrCat("group ", frame.key, " has ranks ", frame.value, " on rank ", connection.rank, " but ",
                               known_ranks, " elsewhere"));
  }
  Answer(connection, frame.id, absl::StrCat(known_number));
}

void StoreServer::Loop::Ask(Connection& connection, const Frame& frame) {
  const uint64_t id = ++last_question_;
  questions_[id] = {connection.rank, frame.id, Clock::now() + kReportTime, {}};
  for (auto& each : connections_) {
    if (each->rank >= 0 && !each->left && !each->closed) Send(*each, {FrameType::kReportPlease, id, frame.key, ""});
  }
}

void StoreServer::Loop::AnswerQuestions() {
  for (auto it = questions_.begin(); it != questions_.end();) {
    Question& question = it->second;
    const bool all = std::all_of(connections_.begin(), connections_.end(), [&](const auto& each) {
      return each->rank < 0 || each->left || each->closed || question.reports.contains(each->rank);
    });
    if (!all && Clock::now() < question.deadline) {
      ++it;
      continue;
    }
    std::string lines;
    for (const auto& [rank, report] : question.reports) absl::StrAppend(&lines, rank, " ", report, "\n");
    for (const int64_t rank : left_) absl::StrAppend(&lines, rank, " left\n");
    if (Connection* asker = Find(question.asker)) Answer(*asker, question.asker_id, lines);
    it = questions_.erase(it);
  }
}

void StoreServer::Loop::Closed(Connection& connection) {
  connection.closed = true;  // Run() closes and removes it
  if (connection.rank < 0 || connection.left) return;
  const bool complete = static_cast<int64_t>(came_.size()) == world_size_;
  Fail(connection.rank,
       complete ? "it died: its connection closed without a goodbye" : "it died before all ranks had come");
}

void StoreServer::Loop::Fail(int64_t from, const std::string& text) {
  if (failed_) return;
  failed_ = true;
  for (auto& each : connections_) {
    if (each->rank >= 0 && each->rank != from && !each->closed) {
      Send(*each, {FrameType::kFailure, 0, absl::StrCat(from), absl::StrCat("rank ", from, ": ", text)});
    }
  }
}

void StoreServer::Loop::TellIfAllLeft() {
  if (static_cast<int64_t>(left_.size()) < world_size_) return;
  for (auto& each : connections_) {
    if (each->rank >= 0 && !each->closed) Send(*each, {FrameType::kAllLeft, 0, "", ""});
  }
}

namespace {

// A socket that listens. Dual stack where there is IPv6.
absl::StatusOr<int> Listen(const StoreOptions& options) {
  const bool loopback = options.host == "localhost" || IsLoopback(options.host);
  const int family = loopback && options.host != "::1" ? AF_INET : AF_INET6;
  int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool ipv4 = family == AF_INET || listener < 0;
  if (listener < 0) listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) return absl::UnavailableError(absl::StrCat("rank 0 gets no socket: ", std::strerror(errno)));
  const int yes = 1, no = 0;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  sockaddr_in address4{};
  address4.sin_family = AF_INET;
  address4.sin_port = htons(static_cast<uint16_t>(options.port));
  address4.sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY);
  sockaddr_in6 address6{};
  address6.sin6_family = AF_INET6;
  address6.sin6_port = address4.sin_port;
  address6.sin6_addr = loopback ? in6addr_loopback : in6addr_any;
  if (!ipv4) setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
  const auto* address = ipv4 ? reinterpret_cast<const sockaddr*>(&address4) : reinterpret_cast<sockaddr*>(&address6);
  if (bind(listener, address, ipv4 ? sizeof(address4) : sizeof(address6)) != 0 || listen(listener, 4096) != 0) {
    const int error = errno;
    close(listener);
    return absl::UnavailableError(
        absl::StrCat("rank 0 cannot listen on port ", options.port, ": ", std::strerror(error),
                     error == EADDRINUSE ? "; another run may hold it: choose another port" : ""));
  }
  return listener;
}

}  // namespace

StoreServer::StoreServer(std::unique_ptr<Loop> loop, int64_t port) : loop_(std::move(loop)), port_(port) {}

StoreServer::~StoreServer() = default;

absl::StatusOr<std::unique_ptr<StoreServer>> StoreServer::Start(const StoreOptions& options) {
  int listener = options.listen_socket;
  if (listener < 0) {
    absl::StatusOr<int> made = Listen(options);
    if (!made.ok()) return made.status();
    listener = *made;
  }
  fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return absl::UnavailableError(absl::StrCat("rank 0's socket does not listen: ", std::strerror(errno)));
  }
  const uint16_t port = ntohs(address.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(address).sin_port
                                                           : reinterpret_cast<sockaddr_in6&>(address).sin6_port);
  return std::unique_ptr<StoreServer>(
      new StoreServer(std::make_unique<Loop>(listener, options.world_size), int64_t{port}));
}

}  // namespace titan
