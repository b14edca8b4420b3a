// How far this process is in each of its groups, and the text of a time-out, which says how far the others are.

#ifndef TITAN_PARALLEL_TRANSPORT_PROGRESS_H_
#define TITAN_PARALLEL_TRANSPORT_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "titan/parallel/store_client.h"

namespace titan {

// One operation of a group, as this process counts them from 1.
struct Operation {
  const char* kind = "";   // "all_reduce"
  int64_t sequence = 0;    // among all operations of the group that this rank takes part in
  int64_t collective = 0;  // among those in which all ranks take part: the same number on all of them. 0: none such
  std::chrono::milliseconds limit{0};  // how long it may take
};

class ProgressTable {
 public:
  // This process has begun the group's next operation.
  Operation Begin(const std::string& group, const char* kind, bool is_collective, std::chrono::milliseconds limit);
  // "COLLECTIVES SEQUENCE KIND" of the last one.
  std::string Report(const std::string& group) const;

 private:
  struct Progress {
    int64_t collectives = 0;
    int64_t operations = 0;
    const char* kind = "none";
  };

  mutable std::mutex mutex_;
  std::map<std::string, Progress> groups_;
};

// "all_reduce #12 of group tp0 (ranks 0, 1) on rank 0".
std::string Describe(const Operation& operation, const std::string& group, const std::vector<int64_t>& ranks,
                     int64_t rank);

// What to say of an operation that took longer than its limit: asks all processes how far they are, and names those
// that did not arrive. `awaited` are the ranks whose messages are outstanding. All ranks are global.
std::string DescribeTimeout(StoreClient& store, const Operation& operation, const std::string& group,
                            const std::vector<int64_t>& ranks, int64_t rank, const std::vector<int64_t>& awaited);

}  // namespace titan

#endif  // TITAN_PARALLEL_TRANSPORT_PROGRESS_H_
