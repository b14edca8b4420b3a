// From the JSON that Jsonnet made to an Experiment that can be trusted: everything is spelt, typed, ranged and
// consistent, and every default is filled in.
//
//   absl::StatusOr<config::Experiment> experiment = ReadExperiment(json, {
//       .source_name = "experiments/llama3/debug.jsonnet",
//       .overrides = {"training.steps=20"},
//   });
//   if (!experiment.ok()) std::cerr << experiment.status().message();  // All errors, one on each line.
//   const std::string bytes = CanonicalBytes(*experiment);             // What a digest covers.

#ifndef TITAN_CONFIG_READER_H_
#define TITAN_CONFIG_READER_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace titan::config {
class Experiment;
}

namespace titan {

struct ReadOptions {
  // Begins the messages whose place in the Jsonnet is not known.
  std::string source_name = {};
  // "path=value" each, applied in order; see overrides.h.
  std::vector<std::string> overrides = {};
  // The Jsonnet files behind the JSON by path: `source_name` is the main one, others are libraries. When a faulty field
  // is written at one place only, its message begins with that file and line.
  std::map<std::string, std::string> jsonnet_sources = {};
};

// InvalidArgument if anything is wrong. The message holds all errors, one on each line:
//   experiments/llama3/8b.jsonnet:14: optimizer.weigth_decay: unknown field; did you mean weight_decay?
absl::StatusOr<config::Experiment> ReadExperiment(std::string_view json, const ReadOptions& options = {});

// The deterministic serialization: equal experiments have equal bytes.
std::string CanonicalBytes(const config::Experiment& experiment);

}  // namespace titan

#endif  // TITAN_CONFIG_READER_H_
