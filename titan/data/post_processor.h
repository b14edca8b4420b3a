// The ids that go around a text, such as a leading BOS: the `post_processor` of a tokenizer.json. Supported: ByteLevel
// (which concerns offsets only), TemplateProcessing and RobertaProcessing of a single text, and Sequences of these.

#ifndef TITAN_DATA_POST_PROCESSOR_H_
#define TITAN_DATA_POST_PROCESSOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace titan {

struct PostProcessor {
  std::vector<int64_t> before;
  std::vector<int64_t> after;
};

absl::StatusOr<PostProcessor> ReadPostProcessor(const nlohmann::json& json);

}  // namespace titan

#endif  // TITAN_DATA_POST_PROCESSOR_H_
