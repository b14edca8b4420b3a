// Says of an error what it happened to.

#ifndef TITAN_BASE_WITH_CONTEXT_H_
#define TITAN_BASE_WITH_CONTEXT_H_

#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace titan {

// `status` with "context: " before its message; its payloads, such as an exit code, stay.
inline absl::Status WithContext(std::string_view context, const absl::Status& status) {
  absl::Status result(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload(
      [&](std::string_view type_url, const absl::Cord& payload) { result.SetPayload(type_url, payload); });
  return result;
}

}  // namespace titan

#endif  // TITAN_BASE_WITH_CONTEXT_H_
