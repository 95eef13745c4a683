// What the harnesses share. They state what must hold with EBB_CHECK, which ends the process; libFuzzer then keeps the input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/types/span.h"

namespace ebbinghaus::fuzz {

// How much more memory is allocated, at its peak, than when the meter was made. One at a time, one thread.
class PeakMemory {
 public:
  PeakMemory();
  ~PeakMemory();
  PeakMemory(const PeakMemory&) = delete;
  PeakMemory& operator=(const PeakMemory&) = delete;

  size_t bytes() const;
};

// A file that exists in memory only and has a path, for readers that take one.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view content);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  int descriptor_ = -1;
  std::string path_;
};

inline std::string_view AsText(const uint8_t* data, size_t size) { return {reinterpret_cast<const char*>(data), size}; }
inline absl::Span<const std::byte> AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// What stands before and after the first zero byte: inputs that hold two texts.
inline std::pair<std::string_view, std::string_view> SplitAtZero(std::string_view input) {
  const size_t zero = input.find('\0');
  if (zero == input.npos) return {input, {}};
  return {input.substr(0, zero), input.substr(zero + 1)};
}

// A custom mutator for inputs that begin with JSON and may go on after a zero byte. Every other time it changes the tree (a
// value replaced, removed, copied, moved; a key renamed), so that the result still parses; else the bytes.
size_t MutateJson(uint8_t* data, size_t size, size_t max_size, unsigned seed);

}  // namespace ebbinghaus::fuzz
