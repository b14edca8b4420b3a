// Runs a function in several real processes, which share a transport: for tests of what ranks do together.
//
//   TEST(AllReduce, Adds) {
//     EXPECT_EQ(RunRanks(4, [](Transport& transport) {
//       ...                                        // EXPECT_... as usual; a failure names the rank
//     }), "");
//   }
//
// The parent process must not have used LibTorch's thread pool or started threads before, because it forks.

#ifndef TITAN_PARALLEL_MULTI_PROCESS_TEST_H_
#define TITAN_PARALLEL_MULTI_PROCESS_TEST_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "titan/parallel/communicator.h"

namespace titan {

// Processes that were started and not yet waited for. The destructor kills them.
class RankProcesses {
 public:
  // Each child runs `body` and exits: with 0, with 1 after a failed expectation, or with 5 after a CommunicationError,
  // whose text it leaves in Error(). The options name a port that rank 0 listens on.
  RankProcesses(int64_t world_size, const std::function<void(const TransportOptions&)>& body);
  ~RankProcesses();

  pid_t pid(int64_t rank) const { return children_[rank].pid; }
  // Waits for it to end. Exit code, or minus the signal that ended it.
  int Wait(int64_t rank);
  // What its CommunicationError said; after Wait().
  std::string Error(int64_t rank) const;

 private:
  struct Child {
    pid_t pid = -1;
    int exit_code = 0;
    bool waited = false;
    std::string error_file;
  };
  std::string directory_;
  std::vector<Child> children_;
};

// All ranks connect and run `body`. The result is empty if all ended well, otherwise which ranks did not and how.
std::string RunRanks(int64_t world_size, const std::function<void(Transport&)>& body);

}  // namespace titan

#endif  // TITAN_PARALLEL_MULTI_PROCESS_TEST_H_
