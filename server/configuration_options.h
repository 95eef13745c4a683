// The table behind configuration.h: every option with its name, help, setter and getter.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/configuration.h"

namespace ebbinghaus {

struct Option {
  std::string name;        // as in --name
  std::string value_name;  // shown by --help
  std::string help;
  // Errors: InvalidArgument that says what is accepted.
  std::function<absl::Status(Configuration&, absl::string_view)> set;
  std::function<std::string(const Configuration&)> get;  // what `set` would accept
  bool is_switch = false;                                // a bare `--name` means on
};

const std::vector<Option>& Options();
// nullptr when there is none of that name.
const Option* FindOption(absl::string_view name);

absl::StatusOr<bool> ParseBool(absl::string_view text);

}  // namespace ebbinghaus
