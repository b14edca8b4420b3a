// In which fields two experiments differ.
//
//   for (const FieldDifference& field : Diff(a, b)) {
//     std::cout << field.path << ": " << field.left << " -> " << field.right << "\n";  // training.steps: 300 -> 1000
//   }

#ifndef TITAN_CONFIG_DIFF_H_
#define TITAN_CONFIG_DIFF_H_

#include <string>
#include <vector>

namespace titan::config {
class Experiment;
}

namespace titan {

struct FieldDifference {
  std::string path;   // "data.sources.0.corpus"
  std::string left;   // a JSON value, or "unset"
  std::string right;  // likewise
};

// Differing fields, in the order of experiment.proto. For experiments that the strict reader made, so that defaults are
// filled in and an empty result means equal canonical bytes.
std::vector<FieldDifference> Diff(const config::Experiment& left, const config::Experiment& right);

}  // namespace titan

#endif  // TITAN_CONFIG_DIFF_H_
