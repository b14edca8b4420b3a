// Early return of absl::Status errors.
//
//   ABSL-style: TITAN_RETURN_IF_ERROR(Write(path));
//   TITAN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));

#ifndef TITAN_BASE_STATUS_MACROS_H_
#define TITAN_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define TITAN_RETURN_IF_ERROR(expression)                                                  \
  do {                                                                                     \
    if (absl::Status titan_status = (expression); !titan_status.ok()) return titan_status; \
  } while (false)

#define TITAN_CONCAT_INNER(a, b) a##b
#define TITAN_CONCAT(a, b) TITAN_CONCAT_INNER(a, b)

#define TITAN_ASSIGN_OR_RETURN_IMPL(result, target, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) return std::move(result).status();          \
  target = *std::move(result)

// `target` is a declaration or an lvalue; `expression` gives a StatusOr.
#define TITAN_ASSIGN_OR_RETURN(target, expression) \
  TITAN_ASSIGN_OR_RETURN_IMPL(TITAN_CONCAT(titan_result_, __LINE__), target, expression)

#endif  // TITAN_BASE_STATUS_MACROS_H_
