// A set of positions as ranges: sorted and merged once, then shared and never changed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "server/base/ids.h"

namespace ebbinghaus::base {

// Positions begin <= p < end.
struct TokenRange {
  Position begin = 0;
  Position end = 0;

  bool operator==(const TokenRange&) const = default;
};

// Copies share the ranges. Immutable; thread safe.
class TokenRanges {
 public:
  TokenRanges() = default;
  // In any order, overlapping or not. Requires: begin < end everywhere.
  TokenRanges(std::initializer_list<TokenRange> ranges)
      : TokenRanges(std::vector<TokenRange>(ranges)) {}
  explicit TokenRanges(std::vector<TokenRange> ranges) {
    if (ranges.empty()) return;
    std::sort(ranges.begin(), ranges.end(),
              [](const TokenRange& a, const TokenRange& b) { return a.begin < b.begin; });
    size_t last = 0;
    for (size_t i = 1; i < ranges.size(); ++i) {
      if (ranges[i].begin <= ranges[last].end) {
        ranges[last].end = std::max(ranges[last].end, ranges[i].end);
      } else {
        ranges[++last] = ranges[i];
      }
    }
    ranges.resize(last + 1);
    ranges_ = std::make_shared<const std::vector<TokenRange>>(std::move(ranges));
  }

  bool empty() const { return ranges_ == nullptr; }

  // Rising, with gaps between them.
  absl::Span<const TokenRange> ranges() const {
    return empty() ? absl::Span<const TokenRange>() : absl::MakeConstSpan(*ranges_);
  }

  bool Contains(Position position) const {
    const absl::Span<const TokenRange> all = ranges();
    const auto after =
        std::upper_bound(all.begin(), all.end(), position,
                         [](Position p, const TokenRange& range) { return p < range.begin; });
    return after != all.begin() && position < std::prev(after)->end;
  }

  // How many positions there are.
  uint64_t tokens() const {
    uint64_t tokens = 0;
    for (const TokenRange& range : ranges()) tokens += range.end - range.begin;
    return tokens;
  }

  bool operator==(const TokenRanges& other) const {
    return ranges_ == other.ranges_ || ranges() == other.ranges();
  }

 private:
  std::shared_ptr<const std::vector<TokenRange>> ranges_;  // null: none
};

}  // namespace ebbinghaus::base
