// Memory for streaming: whole 2 MiB pages where the kernel gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ebbinghaus::kernels {

// Zeroed, aligned to 2 MiB, owned. Empty after a move.
class HugeBuffer {
 public:
  HugeBuffer() = default;
  // Throws std::bad_alloc when the system has no such room.
  explicit HugeBuffer(size_t bytes);
  HugeBuffer(HugeBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  HugeBuffer& operator=(HugeBuffer other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~HugeBuffer();

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;  // as asked for
};

}  // namespace ebbinghaus::kernels
