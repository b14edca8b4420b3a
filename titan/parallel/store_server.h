// The store of a run, served by a thread of rank 0: keys and values, groups, who has come, who has died.
//
//   TITAN_ASSIGN_OR_RETURN(std::unique_ptr<StoreServer> server, StoreServer::Start(options));
//   server->port();
//
// Every process, rank 0 included, holds one connection to it (store_client.h) for as long as it lives. There are no
// heartbeats: a connection that closes without a goodbye is a process that died, and all others are told at once.

#ifndef TITAN_PARALLEL_STORE_SERVER_H_
#define TITAN_PARALLEL_STORE_SERVER_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace titan {

struct StoreOptions {
  int64_t rank = 0;
  int64_t world_size = 1;
  std::string host = "localhost";  // a loopback name: the store listens on loopback only. Otherwise on all interfaces
  int64_t port = 0;
  int listen_socket = -1;  // a socket that listens already, if not -1: the server takes it over
  std::chrono::milliseconds init_timeout{300'000};
};

class StoreServer {
 public:
  // Unavailable: the port is in use.
  static absl::StatusOr<std::unique_ptr<StoreServer>> Start(const StoreOptions& options);
  // Everyone who is still connected sees the connection close.
  ~StoreServer();

  int64_t port() const { return port_; }

 private:
  class Loop;

  StoreServer(std::unique_ptr<Loop> loop, int64_t port);

  std::unique_ptr<Loop> loop_;
  int64_t port_;
};

}  // namespace titan

#endif  // TITAN_PARALLEL_STORE_SERVER_H_
