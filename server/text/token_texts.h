// A text for each id, without a string object for each. Private to this room.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ebbinghaus::text {

// Filled in the order of ids, immutable afterwards.
class TokenTexts {
 public:
  void Reserve(size_t count) { ends_.reserve(count); }
  void Add(std::string_view text) {
    arena_ += text;
    ends_.push_back(arena_.size());
  }
  void ShrinkToFit() { arena_.shrink_to_fit(); }

  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t id) const {
    const size_t begin = id == 0 ? 0 : ends_[id - 1];
    return std::string_view(arena_).substr(begin, ends_[id] - begin);
  }

 private:
  std::string arena_;
  std::vector<size_t> ends_;
};

}  // namespace ebbinghaus::text
