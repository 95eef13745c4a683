// The GGUF container, versions 2 and 3, little endian. Source: the GGUF specification (docs/gguf.md of the GGML project).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/model/config_source.h"
#include "server/model/tensor.h"

namespace ebbinghaus::model {

// Integers of every width become int64 or uint64, reals double. GgufMetadata reads a number of either kind as the kind that
// is asked for, if its value allows, and a list of equal numbers as that number. Lists hold one kind of element; lists of lists are not
// used by any model and are refused.
using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<std::string>>;

class GgufMetadata final : public ConfigSource {
 public:
  absl::StatusOr<std::optional<int64_t>> Integer(const std::string& key) const override;
  absl::StatusOr<std::optional<double>> Real(const std::string& key) const override;
  absl::StatusOr<std::optional<bool>> Flag(const std::string& key) const override;
  absl::StatusOr<std::optional<std::string>> Text(const std::string& key) const override;
  absl::Status Wrong(const std::string& key, const std::string& what) const override;

  // Moves a list out, of int64_t, double or std::string; empty when absent. Integers are taken as reals where those are asked
  // for.
  template <typename Element>
  absl::StatusOr<std::vector<Element>> TakeList(const std::string& key);

  // False when the key is there already.
  bool Add(std::string key, GgufValue value) { return values_.emplace(std::move(key), std::move(value)).second; }

 private:
  const GgufValue* Find(const std::string& key) const;

  std::map<std::string, GgufValue> values_;
};

struct Gguf {
  GgufMetadata metadata;
  std::map<std::string, StoredTensor> tensors;  // by the file's names; they point into the file
};

// Every length and offset is checked against the file before it is used, so that a truncated or hostile file costs an error
// and never more memory than a small multiple of its size.
// Errors: InvalidArgument for anything but GGUF 2 or 3 (little endian), for what the format forbids (lengths, counts, types,
// dimensions, alignment, offsets out of range or overlapping, names twice), and for lists of lists.
absl::StatusOr<Gguf> ReadGguf(absl::Span<const std::byte> bytes);

}  // namespace ebbinghaus::model
