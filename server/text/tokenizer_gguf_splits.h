// What the names in tokenizer.ggml.pre stand for. Private to this room.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/pretokenizer.h"

namespace ebbinghaus::text {

struct NamedSplit {
  std::string_view name;
  const std::string_view* patterns = nullptr;  // one after another, each cuts the pieces further
  size_t pattern_count = 0;
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;    // unless the file says otherwise
  bool spelled_in_utf8 = false;  // not in GPT-2's byte alphabet; spaces are U+2581
};

// Errors: InvalidArgument that names an unknown split and lists the known ones.
absl::StatusOr<NamedSplit> FindNamedSplit(std::string_view name);

std::vector<PreTokenizerStep> StepsOf(const NamedSplit& split);

}  // namespace ebbinghaus::text
