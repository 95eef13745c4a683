// Early return on a status that is not OK.
#pragma once

#include <utility>

#include "absl/status/status.h"

#define EBB_RETURN_IF_ERROR(expression)                  \
  do {                                                   \
    absl::Status ebb_status = (expression);              \
    if (!ebb_status.ok()) return ebb_status;             \
  } while (false)

#define EBB_CONCAT_INNER(a, b) a##b
#define EBB_CONCAT(a, b) EBB_CONCAT_INNER(a, b)
#define EBB_ASSIGN_OR_RETURN_IMPL(result, target, expression) \
  auto result = (expression);                                 \
  if (!result.ok()) return std::move(result).status();        \
  target = *std::move(result)

// EBB_ASSIGN_OR_RETURN(auto value, MakeValue()); for expressions of type absl::StatusOr<T>.
#define EBB_ASSIGN_OR_RETURN(target, expression) \
  EBB_ASSIGN_OR_RETURN_IMPL(EBB_CONCAT(ebb_result_, __LINE__), target, expression)
