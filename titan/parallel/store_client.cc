#include "titan/parallel/store_client.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace titan {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kGoodbyeTime{10'000};
constexpr milliseconds kAnswerTime{5'000};  // of a question that the server answers by itself

std::string Seconds(milliseconds time) { return absl::StrCat(static_cast<double>(time.count()) / 1000, " s"); }

// One try. The error is what getaddrinfo or connect said.
absl::StatusOr<int> TryConnect(const std::string& host, int64_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found); error != 0) {
    return absl::UnavailableError(gai_strerror(error));
  }
  int error = 0;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    const int fd = socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, each->ai_protocol);
    if (fd < 0) {
      error = errno;
      continue;
    }
    if (connect(fd, each->ai_addr, each->ai_addrlen) == 0) {
      freeaddrinfo(found);
      return fd;
    }
    error = errno;
    close(fd);
  }
  freeaddrinfo(found);
  return absl::UnavailableError(std::strerror(error));
}

// Knocks until somebody opens.
absl::StatusOr<int> ConnectUntil(const StoreOptions& options, std::chrono::steady_clock::time_point deadline) {
  milliseconds pause{20};
  while (true) {
    absl::StatusOr<int> connected = TryConnect(options.host, options.port);
    if (connected.ok()) return connected;
    if (std::chrono::steady_clock::now() + pause > deadline) {
      return absl::UnavailableError(
          absl::StrCat("rank ", options.rank, " of ", options.world_size, ": rank 0 did not answer at ", options.host,
                       ":", options.port, " within ", Seconds(options.init_timeout), " (", connected.status().message(),
                       "); did it start, and can this machine reach that address?"));
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, milliseconds(500));
  }
}

}  // namespace

StoreClient::StoreClient(int socket, std::unique_ptr<StoreServer> server, int64_t rank)
    : socket_(socket), server_(std::move(server)), rank_(rank), reader_([this] { Read(); }) {}

absl::StatusOr<std::unique_ptr<StoreClient>> StoreClient::Connect(const StoreOptions& options) {
  const Clock::time_point deadline = Clock::now() + options.init_timeout;
  std::unique_ptr<StoreServer> server;
  StoreOptions reached = options;
  if (options.rank == 0) {
    absl::StatusOr<std::unique_ptr<StoreServer>> started = StoreServer::Start(options);
    if (!started.ok()) return started.status();
    server = *std::move(started);
    reached.port = server->port();
    // It listens on all interfaces, loopback among them; the name may lead to another one, or be unknown here.
    reached.host = options.host == "::1" ? "::1" : "127.0.0.1";
  }
  absl::StatusOr<int> socket = ConnectUntil(reached, deadline);
  if (!socket.ok()) return socket.status();
  SetConnectionOptions(*socket);
  auto client = std::unique_ptr<StoreClient>(new StoreClient(*socket, std::move(server), options.rank));
  if (absl::Status said = client->SayHello(options, deadline); !said.ok()) return said;
  return client;
}

absl::Status StoreClient::SayHello(const StoreOptions& options, Clock::time_point deadline) {
  const std::string who =
      absl::StrCat("rank ", rank_, " of ", options.world_size, " at ", options.host, ":", options.port);
  absl::StatusOr<Frame> welcome =
      Request(FrameType::kHello, absl::StrCat(rank_), absl::StrCat(kStoreMagic, options.world_size), deadline);
  if (welcome.ok() && welcome->type == FrameType::kWelcome) {
    address_ = LocalAddress(socket_);
    if (IsLoopback(address_) && !welcome->value.empty()) address_ = welcome->value;
    return absl::OkStatus();
  }
  absl::Status error;
  if (welcome.ok()) {
    error = absl::FailedPreconditionError(absl::StrCat(who, " was turned away: ", welcome->value));
  } else if (absl::IsDeadlineExceeded(welcome.status())) {
    const absl::StatusOr<Frame> missing = Request(FrameType::kMissing, "", "", Clock::now() + kAnswerTime);
    error = absl::UnavailableError(missing.ok() ? absl::StrCat(who, ": these ranks did not come within ",
                                                               Seconds(options.init_timeout), ": ", missing->value)
                                                : absl::StrCat(who, ": rank 0 does not answer"));
  } else {
    error = absl::UnavailableError(absl::StrCat(who, ": ", failure()));
  }
  // The others that wait hear of it, too, unless this process was not wanted.
  if (!welcome.ok()) Fail(std::string(error.message()));
  KeepFailure(std::string(error.message()));
  return error;
}

StoreClient::~StoreClient() {
  if (!failed()) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      leaving_ = true;
    }
    Send({FrameType::kBye, 0, "", ""});
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, kGoodbyeTime, [&] { return all_left_ || has_failed_; });
  }
  shutdown(socket_, SHUT_RDWR);
  reader_.join();
  close(socket_);
}

void StoreClient::Set(const std::string& key, const std::string& value) { Send({FrameType::kSet, 0, key, value}); }

void StoreClient::Delete(const std::string& key) { Send({FrameType::kDelete, 0, key, ""}); }

absl::StatusOr<std::string> StoreClient::Get(const std::string& key, milliseconds timeout) {
  absl::StatusOr<Frame> answer = Request(FrameType::kGet, key, "", Clock::now() + timeout);
  if (!answer.ok()) {
    return absl::Status(answer.status().code(), absl::StrCat("waiting ", Seconds(timeout), " for \"", key,
                                                             "\" of the store: ", answer.status().message()));
  }
  return std::move(answer->value);
}

absl::StatusOr<int64_t> StoreClient::GroupNumber(const std::string& name, const std::string& ranks) {
  absl::StatusOr<Frame> answer = Request(FrameType::kGroup, name, ranks, Clock::now() + kAnswerTime * 4);
  if (!answer.ok()) return answer.status();
  int64_t number = 0;
  if (answer->type == FrameType::kRefused || !absl::SimpleAtoi(answer->value, &number)) {
    return absl::FailedPreconditionError(answer->value);
  }
  return number;
}

std::map<int64_t, std::string> StoreClient::AskAll(const std::string& group) {
  std::map<int64_t, std::string> reports;
  const absl::StatusOr<Frame> answer = Request(FrameType::kAsk, group, "", Clock::now() + kAnswerTime);
  if (!answer.ok()) return reports;
  for (const std::string_view line : absl::StrSplit(answer->value, '\n', absl::SkipEmpty())) {
    const std::pair<std::string_view, std::string_view> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    int64_t rank = 0;
    if (absl::SimpleAtoi(parts.first, &rank)) reports[rank] = std::string(parts.second);
  }
  return reports;
}

void StoreClient::OnReport(std::function<std::string(const std::string&)> report) {
  std::lock_guard<std::mutex> lock(mutex_);
  on_report_ = std::move(report);
}

void StoreClient::OnFailure(std::function<void()> callback) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!has_failed_) {
      on_failure_ = std::move(callback);
      return;
    }
  }
  if (callback) callback();
}

std::string StoreClient::failure() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

std::string StoreClient::AwaitFailure(milliseconds timeout) const {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, timeout, [&] { return has_failed_.load(); });
  return failure_;
}

void StoreClient::Fail(const std::string& text) {
  if (!failed()) Send({FrameType::kAbort, 0, "", text});
  KeepFailure(absl::StrCat("rank ", rank_, ": ", text));
}

void StoreClient::KeepFailure(const std::string& text) {
  std::function<void()> callback;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (has_failed_) return;
    failure_ = text;
    has_failed_ = true;
    callback = std::move(on_failure_);
    changed_.notify_all();
  }
  if (callback) callback();
}

void StoreClient::Send(const Frame& frame) {
  // A connection that is gone is noticed by Read(), whose word is final.
  std::lock_guard<std::mutex> lock(write_mutex_);
  (void)WriteAll(socket_, Encode(frame));
}

absl::StatusOr<Frame> StoreClient::Request(FrameType type, const std::string& key, const std::string& value,
                                           Clock::time_point deadline) {
  uint64_t id;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (has_failed_) return absl::UnavailableError(failure_);
    id = ++last_id_;
    answers_[id] = std::nullopt;
  }
  Send({type, id, key, value});
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_until(lock, deadline, [&] { return answers_[id].has_value() || has_failed_; });
  std::optional<Frame> answer = std::move(answers_[id]);
  answers_.erase(id);
  if (answer.has_value()) return *std::move(answer);
  if (has_failed_) return absl::UnavailableError(failure_);
  return absl::DeadlineExceededError("no answer in time");
}

void StoreClient::Read() {
  std::string in;
  char bytes[65536];
  while (true) {
    const ssize_t got = recv(socket_, bytes, sizeof(bytes), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    in.append(bytes, got);
    absl::StatusOr<std::optional<Frame>> frame;
    while ((frame = TakeFrame(in)).ok() && frame->has_value()) Handle(**std::move(frame));
    if (!frame.ok()) break;
  }
  bool leaving;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    leaving = leaving_;
    all_left_ = true;
    changed_.notify_all();
  }
  if (!leaving) KeepFailure("rank 0: it died, or left early: its connection closed");
}

void StoreClient::Handle(Frame frame) {
  switch (frame.type) {
    case FrameType::kWelcome:
    case FrameType::kRefused:
    case FrameType::kAnswer: {
      std::lock_guard<std::mutex> lock(mutex_);
      if (const auto found = answers_.find(frame.id); found != answers_.end()) found->second = std::move(frame);
      changed_.notify_all();
      return;
    }
    case FrameType::kReportPlease: {
      std::function<std::string(const std::string&)> report;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        report = on_report_;
      }
      return Send({FrameType::kReport, frame.id, "", report ? report(frame.key) : ""});
    }
    case FrameType::kFailure:
      return KeepFailure(frame.value);
    case FrameType::kAllLeft: {
      std::lock_guard<std::mutex> lock(mutex_);
      all_left_ = true;
      changed_.notify_all();
      return;
    }
    default:
      return;
  }
}

}  // namespace titan
