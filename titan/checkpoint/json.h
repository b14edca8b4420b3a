// JSON of files that others wrote: strict about what JSON itself leaves open.

#ifndef TITAN_CHECKPOINT_JSON_H_
#define TITAN_CHECKPOINT_JSON_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace titan {

// The object that `text` holds. InvalidArgument, with the place, for anything that is not one JSON object, and for a
// key that appears twice in one object.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text);

// Sizes or offsets: an array of integers in [0, 2^63). InvalidArgument otherwise.
absl::StatusOr<std::vector<int64_t>> ParseSizes(const nlohmann::json& value);

}  // namespace titan

#endif  // TITAN_CHECKPOINT_JSON_H_
