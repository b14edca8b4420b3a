// One rank's part of the comparison.

#ifndef TITAN_TESTS_PARITY_RANK_H_
#define TITAN_TESTS_PARITY_RANK_H_

#include <string>

#include "absl/status/status.h"
#include "titan/parallel/communicator.h"

namespace titan {

// Trains every layout that fits into the transport's world for 10 steps, and on rank 0 also alone, with the same
// batches. Rank 0 writes a JSON object to `result`: for each layout (and each negative control) how far it was from one
// process.
absl::Status RunParityRank(Transport& transport, const std::string& result);

}  // namespace titan

#endif  // TITAN_TESTS_PARITY_RANK_H_
