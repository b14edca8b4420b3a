// One rank's part of the comparison.

#ifndef TITAN_TESTS_PARITY_RANK_H_
#define TITAN_TESTS_PARITY_RANK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/parity/layouts.h"
#include "titan/parallel/communicator.h"

namespace titan {

// Trains the layouts for 10 steps, and on rank 0 also alone, with the same batches; `with_controls`: also a layout
// twice for its bits, and the negative controls. Rank 0 writes a JSON object to `result`: for each how far it was from
// one process.
absl::Status RunParityRank(Transport& transport, const std::vector<Layout>& layouts, bool with_controls,
                           const std::string& result);

}  // namespace titan

#endif  // TITAN_TESTS_PARITY_RANK_H_
