// The GGUF container, versions 2 and 3, little endian. Source: the GGUF specification of the GGML project.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/model/tensor.h"

namespace ebbinghaus::model {

// Integers of every width become int64 or uint64, floats double. Lists hold one kind of element; lists of lists are not
// used by any model and are refused.
using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<std::string>>;

struct Gguf {
  std::map<std::string, GgufValue> metadata;
  std::map<std::string, TensorView> tensors;  // shapes row-major; views point into the file

  // Typed look-ups. Missing: the fallback or an empty optional. Errors: InvalidArgument naming a key of the wrong kind.
  absl::StatusOr<std::string> Text(const std::string& key, std::string_view fallback) const;
  absl::StatusOr<std::optional<uint64_t>> Count(const std::string& key) const;
  absl::StatusOr<std::optional<double>> Real(const std::string& key) const;
  absl::StatusOr<std::optional<bool>> Flag(const std::string& key) const;
  template <typename List>
  absl::StatusOr<List> ListOf(const std::string& key) const;  // of int64_t, double or std::string; missing: empty
};

// Every length and offset is checked against the file before it is used, so that a truncated or hostile file costs an error
// and never more memory than a small multiple of its size. Errors: InvalidArgument.
absl::StatusOr<Gguf> ReadGguf(absl::Span<const std::byte> bytes);

}  // namespace ebbinghaus::model
