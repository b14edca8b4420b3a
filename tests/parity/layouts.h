// The layouts that are compared with one process, and those that are measured.

#ifndef TITAN_TESTS_PARITY_LAYOUTS_H_
#define TITAN_TESTS_PARITY_LAYOUTS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace titan {

struct Layout {
  std::string name;  // of the test, too: letters, digits and underscores
  int64_t world_size = 1;
  std::vector<std::string> overrides;  // of the experiment: "path=value"
  bool tied = false;
  bool muon = false;
};

// What makes an experiment one with Muon for the matrices of layers.
const std::vector<std::string>& MuonOverrides();

// Each mode alone, every pipeline schedule, gradient accumulation, recomputation, Muon, and mixes of up to four axes.
const std::vector<Layout>& Layouts();

// One process, and what 8 processes can be, for layout_benchmark.
const std::vector<Layout>& BenchmarkLayouts();

}  // namespace titan

#endif  // TITAN_TESTS_PARITY_LAYOUTS_H_
