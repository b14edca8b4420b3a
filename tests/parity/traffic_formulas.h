// What a rank sends in one step, worked out from shapes: the formulas of docs/parallelism.md, term by term.
//
//   TITAN_ASSIGN_OR_RETURN(const TrafficBytes expected, ExpectedTraffic(experiment, mesh, /*rank=*/3));
//   expected.at("fsdp.all_gather");  // bytes

#ifndef TITAN_TESTS_PARITY_TRAFFIC_FORMULAS_H_
#define TITAN_TESTS_PARITY_TRAFFIC_FORMULAS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "titan/plan/mesh.h"

namespace titan::config {
class Experiment;
}

namespace titan {

// By axis of the mesh and operation: "tp.reduce_scatter". Nothing where nothing is sent.
using TrafficBytes = std::map<std::string, int64_t>;

// Unimplemented for a mode that no formula is written down for.
absl::StatusOr<TrafficBytes> ExpectedTraffic(const config::Experiment& experiment, const Mesh& mesh, int64_t rank);

}  // namespace titan

#endif  // TITAN_TESTS_PARITY_TRAFFIC_FORMULAS_H_
